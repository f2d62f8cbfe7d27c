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
			gateway:   cfg.Bridges[name].gatewayAddr(),
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

// bridgesOf names the bridges that a segment can be reached by, in order.
func (c *Config) bridgesOf(segment string) (names []string) {
	for _, name := range sortedKeys(c.Bridges) {
		b := c.Bridges[name]
		steered := slices.ContainsFunc(b.Steer, func(r Rule) bool { return r.Segment == segment })
		if steered || b.LBPolicy != nil && slices.Contains(b.LBPolicy.Segments, segment) {
			names = append(names, name)
		}
	}
	return names
}

// gatewaysOf names the bridges for whose gateways the first aliases of a segment
// stand, one each.
func (c *Config) gatewaysOf(segment string) (names []string) {
	for _, name := range c.bridgesOf(segment) {
		if c.Bridges[name].Gateway.IsValid() {
			names = append(names, name)
		}
	}
	return names
}

// settingsOf are what the VNIC of a segment should be like.
func (c *Config) settingsOf(segment string, bridges map[string]*bridge) vnicSettings {
	settings := vnicSettings{mtu: c.mtuOf(segment, bridges), neighbours: c.aliasMACs(segment, bridges)}
	beyond := c.Segments[segment].ClientIP == Preserve || c.Segments[segment].egress() == EgressAny
	if beyond && len(c.gatewaysOf(segment)) > 0 {
		settings.via = c.Segments[segment].aliasPool()[0]
		settings.hostRoute = c.Segments[segment].DefaultRoute || c.Segments[segment].Netns != ""
	}
	return settings
}

// defaultMTU is that of Ethernet, for a segment that no bridge serves.
const defaultMTU = 1500

// mtuOf is the MTU of a segment's VNIC: that of the smallest NIC that serves it
// (F8).
func (c *Config) mtuOf(segment string, bridges map[string]*bridge) int {
	mtu := 0
	for _, name := range c.bridgesOf(segment) {
		if m := int(bridges[name].port.mtu.Load()); mtu == 0 || m < mtu {
			mtu = m
		}
	}
	if mtu == 0 {
		return defaultMTU
	}
	return mtu
}

// aliasMACs gives each alias of a segment the MAC of the host behind it (A3): a
// gateway's alias its own, another segment's that of its VNIC; the shared ones the
// first gateway's. While that is not resolved, and where there is none, the NIC's
// stands in.
func (c *Config) aliasMACs(segment string, bridges map[string]*bridge) map[netip.Addr]MAC {
	macs := make(map[netip.Addr]MAC)
	for peer, alias := range c.peerAliases(segment) {
		macs[alias] = c.vnicSpecOf(peer).mac
	}
	served := c.bridgesOf(segment)
	if len(served) == 0 {
		return macs
	}
	gateways := c.gatewaysOf(segment)
	shared := bridges[served[0]].port.mac()
	if len(gateways) > 0 {
		shared = bridges[gateways[0]].gatewayMAC(c.Bridges[gateways[0]].Gateway)
	}
	for i, alias := range c.sharedAliases(segment) {
		macs[alias] = shared
		if i < len(gateways) {
			macs[alias] = bridges[gateways[i]].gatewayMAC(c.Bridges[gateways[i]].Gateway)
		}
	}
	return macs
}

func (b *bridge) gatewayMAC(gateway netip.Addr) MAC {
	if mac, ok := b.link.lookup(gateway); ok {
		return mac
	}
	return b.port.mac()
}

// Defaults.

func (c *Config) maxFlows() int {
	if c.MaxFlows == 0 {
		return DefaultMaxFlows
	}
	return c.MaxFlows
}

func (b *Bridge) gatewayAddr() addr {
	if !b.Gateway.IsValid() {
		return noAddr
	}
	return addrOf(b.Gateway)
}

func (s *Segment) weight() int { return max(s.Weight, 1) }

func (s *Segment) egress() Egress {
	if s.Egress == "" {
		return EgressGateway
	}
	return s.Egress
}
