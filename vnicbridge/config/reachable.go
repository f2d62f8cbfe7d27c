package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Unserved reports segments, addresses and ports that no client can reach, and flows that no
// segment or server answers, one sentence each. listen has the ports that servers of this program open,
// by segment, and sites what they serve by host name.
func (c *Config) Unserved(listen map[string][]PortRange, sites []Site) (findings []string) {
	for _, name := range SortedKeys(c.Segments) {
		sources := c.sources(name)
		switch {
		case len(sources) == 0:
			findings = append(findings, fmt.Sprintf("segment %s: no bridge gives it flows, and no segment may reach it: nothing from outside reaches it", name))
			continue
		case len(c.Segments[name].Ports) == 0 && len(listen[name]) == 0 && c.wantsPorts(name):
			findings = append(findings, fmt.Sprintf("segment %s: it gets flows from %s and opens no port, so it refuses them: give it a site (`bind vnic/%s`), or name its server's ports in `ports`",
				name, strings.Join(sources, ", "), name))
		}
		for _, r := range listen[name] {
			if r.Protocol == TCP && !c.reached(name, r) {
				findings = append(findings, fmt.Sprintf("segment %s: a server listens on %s, which %s does not let in: no client reaches it; name the port in `steer %s`",
					name, r, strings.Join(sources, ", "), name))
			}
		}
		findings = append(findings, c.idleAddresses(name)...)
	}
	for _, name := range SortedKeys(c.Bridges) {
		findings = append(findings, c.refusedFamilies(name)...)
		findings = append(findings, c.strayNames(name, sites)...)
	}
	return findings
}

// idleAddresses reports the addresses of a segment to which nothing that gives it flows can
// give any, because it has no address of the family.
func (c *Config) idleAddresses(segment string) (findings []string) {
	for f := range Families {
		own := c.Segments[segment].Address(f)
		if !own.IsValid() || c.sourceOfFamily(segment, f) {
			continue
		}
		findings = append(findings, fmt.Sprintf("segment %s: nothing from outside reaches its address %s, because nothing that gives it flows (%s) has an %s address",
			segment, own.Addr(), strings.Join(c.sources(segment), ", "), f))
	}
	return findings
}

// sourceOfFamily tells whether a bridge or a segment that gives a segment flows has an address
// of a family.
func (c *Config) sourceOfFamily(segment string, f Family) bool {
	for _, name := range c.BridgesOf(segment) {
		if c.Bridges[name].Address(f).IsValid() {
			return true
		}
	}
	for _, s := range c.Segments {
		if slices.Contains(s.Reach, segment) && s.Address(f).IsValid() {
			return true
		}
	}
	return false
}

// refusedFamilies reports the flows of a bridge that get no segment, because those that they
// could get have no address of the flow's family (F14).
func (c *Config) refusedFamilies(bridge string) (findings []string) {
	b := c.Bridges[bridge]
	for f := range Families {
		if !b.Address(f).IsValid() {
			continue
		}
		if len(c.Candidates(bridge, f)) == 0 {
			findings = append(findings, fmt.Sprintf("bridge %s: none of its segments has an %s address, so no %s flow gets a segment", bridge, f, f))
			continue
		}
		for i, rule := range b.Rules() {
			if rule.matchesFamily(f) && !c.anyOfFamily(rule.Segments(), f) {
				findings = append(findings, fmt.Sprintf("bridge %s: segment %s has no %s address, so the %s flows that steer rule %d matches get no segment", bridge, strings.Join(rule.Segments(), " or "), f, f, i+1))
			}
		}
		if b.LBPolicy != nil && !c.anyOfFamily(b.LBPolicy.Segments, f) {
			findings = append(findings, fmt.Sprintf("bridge %s: no segment of its lb_policy has an %s address, so the %s flows that no steer rule matches get no segment", bridge, f, f))
		}
	}
	return findings
}

// Candidates names the segments that a bridge may give flows of a family, those of its policy
// first. A segment without an address of the family is none (F14).
func (c *Config) Candidates(bridge string, f Family) []string {
	return slices.DeleteFunc(c.Bridges[bridge].segments(), func(name string) bool { return !c.Segments[name].Address(f).IsValid() })
}

// segments names the segments that a bridge may give flows, those of its policy first.
func (b *Bridge) segments() (names []string) {
	if b.LBPolicy != nil {
		names = slices.Clone(b.LBPolicy.Segments)
	}
	for _, rule := range b.Rules() {
		for _, name := range rule.Segments() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// matchesFamily tells whether a rule matches flows of some client of a family.
func (r *Rule) matchesFamily(f Family) bool {
	return len(r.Clients) == 0 || slices.ContainsFunc(r.Clients, func(p netip.Prefix) bool { return FamilyOf(p.Addr()) == f })
}

// sources names the bridges and the segments that give a segment flows.
func (c *Config) sources(segment string) (sources []string) {
	for _, name := range c.BridgesOf(segment) {
		sources = append(sources, "bridge "+name)
	}
	for _, name := range SortedKeys(c.Segments) {
		if slices.Contains(c.Segments[name].Reach, segment) {
			sources = append(sources, "segment "+name)
		}
	}
	return sources
}

// BridgesOf names the bridges that may give a segment flows, in order.
func (c *Config) BridgesOf(segment string) (names []string) {
	for _, name := range SortedKeys(c.Bridges) {
		if slices.Contains(c.Bridges[name].segments(), segment) {
			names = append(names, name)
		}
	}
	return names
}

// BridgesBefore names the bridges from which flows come to a segment, directly or by segments that
// reach it, in order. It names all bridges if flows come from none.
func (c *Config) BridgesBefore(segment string) (names []string) {
	before := map[string]bool{segment: true}
	for more := true; more; {
		more = false
		for name, s := range c.Segments {
			if !before[name] && slices.ContainsFunc(s.Reach, func(to string) bool { return before[to] }) {
				before[name], more = true, true
			}
		}
	}
	for _, name := range SortedKeys(c.Bridges) {
		if slices.ContainsFunc(c.Bridges[name].segments(), func(s string) bool { return before[s] }) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return SortedKeys(c.Bridges)
	}
	return names
}

// GatewaysOf names the bridges of a segment that have a gateway of a family. The segment's
// first aliases stand for these gateways, one each. For a segment without an address of the
// family there are none.
func (c *Config) GatewaysOf(segment string, f Family) (names []string) {
	if !c.Segments[segment].Address(f).IsValid() {
		return nil
	}
	for _, name := range c.BridgesOf(segment) {
		if c.Bridges[name].Gateway(f).IsValid() {
			names = append(names, name)
		}
	}
	return names
}

// wantsPorts tells whether a segment gets flows other than pings.
func (c *Config) wantsPorts(segment string) bool {
	return c.reached(segment, PortRange{TCP, 1, 65535}) || c.reached(segment, PortRange{UDP, 1, 65535})
}

// reached tells whether flows to one of a range of ports may come to a segment.
func (c *Config) reached(segment string, ports PortRange) bool {
	for _, b := range c.Bridges {
		if b.gives(segment, ports) {
			return true
		}
	}
	for _, s := range c.Segments {
		if slices.Contains(s.Reach, segment) {
			return true
		}
	}
	return false
}

// gives tells whether a bridge may give a segment flows to one of a range of ports: by
// the first steer rule that matches, or else by its policy.
func (b *Bridge) gives(segment string, ports PortRange) bool {
	for _, rule := range b.Rules() {
		own := slices.Contains(rule.Segments(), segment)
		if own && rule.mayMatch(ports) {
			return true
		}
		if !own && rule.takesAll(ports) {
			return false
		}
	}
	return b.Chooses(segment)
}

// mayMatch tells whether a rule matches flows of some client to one of the ports.
func (r *Rule) mayMatch(ports PortRange) bool {
	if len(r.Protocols) > 0 && !slices.Contains(r.Protocols, ports.Protocol) {
		return false
	}
	own := r.PortsOrDefault()
	return len(own) == 0 || slices.ContainsFunc(own, func(p PortRange) bool {
		return p.Protocol == ports.Protocol && p.First <= ports.Last && ports.First <= p.Last
	})
}

// takesAll tells whether a rule matches the flows of all clients to all of the ports, whatever
// name they have.
func (r *Rule) takesAll(ports PortRange) bool { return len(r.Names) == 0 && r.covers(ports) }

// covers tells whether a rule matches the flows of all clients to all of the ports, if they have
// one of its names.
func (r *Rule) covers(ports PortRange) bool {
	if len(r.Clients) > 0 || len(r.Protocols) > 0 && !slices.Contains(r.Protocols, ports.Protocol) {
		return false
	}
	all := r.PortsOrDefault()
	return len(all) == 0 || slices.ContainsFunc(all, func(own PortRange) bool {
		return own.Protocol == ports.Protocol && own.First <= ports.First && ports.Last <= own.Last
	})
}
