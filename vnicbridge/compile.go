package vnicbridge

import (
	"net/netip"
	"slices"
)

// compile makes the ruleset of a configuration for its living devices. Retired
// ones carry the flows that they have, and get no new ones.
func (p *Plane) compile(cfg *Config, d, retired devices) (*ruleset, error) {
	rules := &ruleset{bridges: make(map[*port]*bridgeRules), segments: make(map[*port]*segmentRules), vnicsOf: make(map[string][]*port)}
	available := make(map[string]candidate)
	for name, s := range d.segments {
		if p.states[name] == Active && p.health.condition(s.port).problem == "" {
			available[name] = candidate{name, s.port, p.weight(cfg, name)}
		}
		rules.segments[s.port] = p.compileSegment(cfg, name, d)
	}
	for name, b := range d.bridges {
		rules.bridges[b.port] = &bridgeRules{
			decisions: compileDecisions(p.bridge(cfg, name), available, b.port, p.key),
			gateway:   gatewayOf(cfg.Bridges[name]),
			refuse:    cfg.Bridges[name].OnNoSegment,
		}
	}
	for _, port := range append(d.ports(), retired.ports()...) {
		if port.nic != nil {
			rules.nics = append(rules.nics, port)
		} else {
			rules.vnics = append(rules.vnics, port)
			rules.vnicsOf[port.vnic.segment] = append(rules.vnicsOf[port.vnic.segment], port)
		}
	}
	var err error
	rules.impossible, err = p.impossibleSources(cfg)
	return rules, err
}

func (p *Plane) compileSegment(cfg *Config, name string, d devices) *segmentRules {
	s := cfg.Segments[name]
	rules := &segmentRules{
		aliases:  newAliasPool(cfg.sharedAliases(name), p.key),
		reach:    make(map[addr]reachRule),
		preserve: s.ClientIP == Preserve,
		ports:    s.Ports,
		egress:   s.egress(),
	}
	for _, bridge := range cfg.gatewaysOf(name) {
		rules.gateways = append(rules.gateways, d.bridges[bridge].port)
	}
	for _, peer := range s.Reach {
		here, _ := cfg.PeerAlias(name, peer)
		there, _ := cfg.PeerAlias(peer, name)
		rules.reach[addrOf(here)] = reachRule{to: d.segments[peer].port, alias: addrOf(there)}
	}
	return rules
}

// gatewayOf is the gateway of a bridge, or noAddr.
func gatewayOf(b *Bridge) addr {
	if !b.Gateway.IsValid() {
		return noAddr
	}
	return addrOf(b.Gateway)
}

// impossibleSources lists what no packet from a network can come from (S1): what
// is never outside, the pseudo addresses, the segments' networks, and the
// addresses of the host with their networks' broadcast addresses.
func (p *Plane) impossibleSources(cfg *Config) ([]netip.Prefix, error) {
	sources := slices.Clone(neverOutside)
	for _, name := range sortedKeys(cfg.Segments) {
		sources = append(sources, cfg.Segments[name].subnet())
	}
	for _, name := range sortedKeys(cfg.Bridges) {
		sources = append(sources, ownAndBroadcast(cfg.Bridges[name].Addresses[0])...)
	}
	host, err := p.session.machine.hostPrefixes()
	if err != nil {
		return nil, err
	}
	for _, h := range host {
		sources = append(sources, ownAndBroadcast(h.prefix)...)
	}
	return sources, nil
}

// ownAndBroadcast are the two addresses of an interface that cannot be another
// host's.
func ownAndBroadcast(p netip.Prefix) []netip.Prefix {
	bits := p.Addr().BitLen()
	own := []netip.Prefix{netip.PrefixFrom(p.Addr(), bits)}
	if p.Bits() < bits-1 {
		own = append(own, netip.PrefixFrom(lastAddr(p), bits))
	}
	return own
}
