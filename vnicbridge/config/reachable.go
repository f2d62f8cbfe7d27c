package config

import (
	"fmt"
	"slices"
	"strings"
)

// Unserved reports segments and ports that no client can reach, and segments whose flows no
// server answers, one sentence each. listen has the ports that servers of this program open,
// by segment.
func (c *Config) Unserved(listen map[string][]PortRange) (findings []string) {
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
				findings = append(findings, fmt.Sprintf("segment %s: a server listens on %s, which %s does not let in: no client reaches it; name the port where `steer %s` names ports",
					name, r, strings.Join(sources, ", "), name))
			}
		}
	}
	return findings
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
		b := c.Bridges[name]
		if b.Chooses(segment) || slices.ContainsFunc(b.Steer, func(r Rule) bool { return r.Segment == segment }) {
			names = append(names, name)
		}
	}
	return names
}

// GatewaysOf names the bridges of a segment that have a gateway of a family. The segment's
// first aliases stand for these gateways, one each.
func (c *Config) GatewaysOf(segment string, f Family) (names []string) {
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
	for _, rule := range b.Steer {
		if rule.Segment == segment && rule.mayMatch(ports) {
			return true
		}
		if rule.Segment != segment && rule.takesAll(ports) {
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
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(own PortRange) bool {
		return own.Protocol == ports.Protocol && own.First <= ports.Last && ports.First <= own.Last
	})
}

// takesAll tells whether a rule matches the flows of all clients to all of the ports.
func (r *Rule) takesAll(ports PortRange) bool {
	if len(r.Clients) > 0 || len(r.Protocols) > 0 && !slices.Contains(r.Protocols, ports.Protocol) {
		return false
	}
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(own PortRange) bool {
		return own.Protocol == ports.Protocol && own.First <= ports.First && ports.Last <= own.Last
	})
}
