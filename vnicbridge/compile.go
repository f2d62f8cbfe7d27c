package vnicbridge

import (
	"net/netip"
	"slices"
)

// inputs are what a ruleset is compiled from.
type inputs struct {
	config    *Config          // valid, with what was set by hand in place of what it says
	nics      map[string]*port // by the names of its bridges
	vnics     map[string]*port // by the names of its segments
	retired   []*port          // of older configurations: they keep their flows and get no new ones
	available map[string]bool  // the segments that may get new flows
	host      []netip.Prefix   // the host's own addresses, with their networks
	key       hashKey
}

// compile makes the ruleset of a configuration.
func compile(in inputs) *ruleset {
	rules := &ruleset{
		bridges: make(map[*port]*bridgeRules), segments: make(map[*port]*segmentRules),
		vnicsOf: make(map[string][]*port), impossible: impossibleSources(in.config, in.host),
	}
	candidates := make(map[string]candidate)
	for name, vnic := range in.vnics {
		if in.available[name] {
			candidates[name] = candidate{name, vnic, in.config.Segments[name].weight()}
		}
		rules.segments[vnic] = in.compileSegment(name)
		rules.add(vnic)
	}
	for name, nic := range in.nics {
		rules.bridges[nic] = in.compileBridge(name, candidates)
		rules.add(nic)
	}
	for _, port := range in.retired {
		rules.add(port)
	}
	return rules
}

// add takes a port into the lists of all ports.
func (r *ruleset) add(port *port) {
	if port.nic != nil {
		r.nics = append(r.nics, port)
		return
	}
	r.vnics = append(r.vnics, port)
	r.vnicsOf[port.vnic.segment] = append(r.vnicsOf[port.vnic.segment], port)
}

func (in inputs) compileBridge(name string, candidates map[string]candidate) *bridgeRules {
	b, nic := in.config.Bridges[name], in.nics[name]
	rules := &bridgeRules{
		nic:       nic,
		decisions: compileDecisions(b, candidates, nic, in.key),
		gateway:   noAddr,
		refuse:    b.OnNoSegment,
	}
	if b.Gateway.IsValid() {
		rules.gateway = addrOf(b.Gateway)
	}
	return rules
}

func (in inputs) compileSegment(name string) *segmentRules {
	s := in.config.Segments[name]
	rules := &segmentRules{
		vnic:     in.vnics[name],
		aliases:  newAliasPool(in.config.sharedAliases(name), in.key),
		reach:    make(map[addr]reachRule),
		preserve: s.ClientIP == Preserve,
		ports:    s.Ports,
		egress:   s.egress(),
	}
	for _, bridge := range in.config.gatewaysOf(name) {
		rules.gateways = append(rules.gateways, in.nics[bridge])
	}
	for _, peer := range s.Reach {
		here, _ := in.config.PeerAlias(name, peer)
		there, _ := in.config.PeerAlias(peer, name)
		rules.reach[addrOf(here)] = reachRule{to: in.vnics[peer], alias: addrOf(there)}
	}
	return rules
}

// impossibleSources lists the addresses that no host outside can have (S1): those that
// are never outside, the segments' networks, and the pseudo addresses and the host's own
// addresses, each with the broadcast address of its network.
func impossibleSources(cfg *Config, host []netip.Prefix) []netip.Prefix {
	sources := slices.Clone(neverOutside)
	for _, name := range sortedKeys(cfg.Segments) {
		sources = append(sources, cfg.Segments[name].subnet())
	}
	for _, name := range sortedKeys(cfg.Bridges) {
		sources = append(sources, ownAndBroadcast(cfg.Bridges[name].Addresses[0])...)
	}
	for _, own := range host {
		sources = append(sources, ownAndBroadcast(own)...)
	}
	return sources
}

// ownAndBroadcast are the two addresses of an interface that no other host can have.
func ownAndBroadcast(p netip.Prefix) []netip.Prefix {
	bits := p.Addr().BitLen()
	own := []netip.Prefix{netip.PrefixFrom(p.Addr(), bits)}
	if p.Bits() < bits-1 {
		own = append(own, netip.PrefixFrom(lastAddr(p), bits))
	}
	return own
}
