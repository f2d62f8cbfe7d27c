package config

import (
	"cmp"
	"slices"
)

// Site is what a server on a segment serves by host name.
type Site struct {
	Segment string
	Names   []string    // in the form of [HostPattern]
	Ports   []PortRange // on which the server has these names

	// Redirects is the TCP port on which the server redirects clients of these names to HTTPS
	// and answers ACME challenges; 0: none.
	Redirects uint16
}

// Rules returns the steer rules that have a segment, which are all except `steer sites`, with their
// names in the form of [HostPattern].
func (b *Bridge) Rules() []Rule {
	rules := slices.DeleteFunc(slices.Clone(b.Steer), func(r Rule) bool { return r.Sites })
	for i := range rules {
		rules[i].Names = rules[i].normalNames()
	}
	return rules
}

// steersSites tells where a bridge's `steer sites` is: -1 if there is none.
func (b *Bridge) steersSites() int {
	return slices.IndexFunc(b.Steer, func(r Rule) bool { return r.Sites })
}

// ResolveSites puts the rules that each `steer sites` stands for after the line. The line stays
// and matches nothing, so that a bridge whose last site has gone remains valid.
func (c *Config) ResolveSites(sites []Site) {
	steer := make(map[string][]Rule) // set at the end, because a bridge's rules depend on those of the others
	for name, b := range c.Bridges {
		if i := b.steersSites(); i >= 0 {
			steer[name] = slices.Insert(slices.Clone(b.Steer), i+1, c.siteRules(name, sites)...)
		}
	}
	for name, rules := range steer {
		c.Bridges[name].Steer = rules
	}
}

// siteRules returns the rules that a bridge's `steer sites` stands for. There is one for each
// segment, unless names of a segment differ in their ports.
func (c *Config) siteRules(bridge string, sites []Site) (rules []Rule) {
	ports := make(map[string]map[string][]PortRange) // by segment and name
	for at, claims := range c.claims(bridge, sites) {
		segment := c.winner(claims)
		if segment == "" {
			continue
		}
		if ports[segment] == nil {
			ports[segment] = make(map[string][]PortRange)
		}
		ports[segment][at.name] = append(ports[segment][at.name], at.ports)
	}
	for _, segment := range SortedKeys(ports) {
		for _, name := range SortedKeys(ports[segment]) {
			own := ports[segment][name]
			slices.SortFunc(own, comparePorts)
			i := slices.IndexFunc(rules, func(r Rule) bool { return r.Segment == segment && slices.Equal(r.Ports, own) })
			if i < 0 {
				i = len(rules)
				rules = append(rules, Rule{Segment: segment, Ports: own})
			}
			rules[i].Names = append(rules[i].Names, name)
		}
	}
	return rules
}

func comparePorts(a, b PortRange) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
}

// served is a host name on ports.
type served struct {
	name  string
	ports PortRange
}

// claims returns the segments of a bridge whose servers have a name on ports. The value is true
// if a site has the name there, and false if the server only redirects.
func (c *Config) claims(bridge string, sites []Site) map[served]map[string]bool {
	all := make(map[served]map[string]bool)
	claim := func(name string, ports PortRange, segment string, site bool) {
		at := served{name, ports}
		if all[at] == nil {
			all[at] = make(map[string]bool)
		}
		all[at][segment] = all[at][segment] || site
	}
	for _, s := range sites {
		if !c.maySteerSites(bridge, s.Segment) {
			continue
		}
		for _, name := range s.Names {
			for _, ports := range s.Ports {
				claim(name, ports, s.Segment, true)
			}
			if s.Redirects != 0 {
				claim(name, PortRange{TCP, s.Redirects, s.Redirects}, s.Segment, false)
			}
		}
	}
	return all
}

// maySteerSites tells whether a `steer sites` in a bridge may give a segment flows: it may if the
// bridge names the segment elsewhere, or if no bridge does.
func (c *Config) maySteerSites(bridge, segment string) bool {
	b, s := c.Bridges[bridge], c.Segments[segment]
	if s == nil || !shareFamily(s.Addresses, b.Addresses) {
		return false
	}
	bridges := c.BridgesOf(segment)
	return len(bridges) == 0 || slices.Contains(bridges, bridge)
}

// waitsForSites tells whether some `steer sites` would give a segment flows if the segment had
// sites with host names.
func (c *Config) waitsForSites(segment string) bool {
	return slices.ContainsFunc(SortedKeys(c.Bridges), func(name string) bool {
		return c.Bridges[name].steersSites() >= 0 && c.maySteerSites(name, segment)
	})
}

// winner returns the segment that gets a name, of those that claim it. A front comes before the
// segments behind it, and a site before a redirect. If two segments are equal, as when one site
// is bound to both, there is no winner: the name does not choose between them.
func (c *Config) winner(claims map[string]bool) string {
	var have, redirect []string
	for segment, site := range claims {
		reaches := func(front string) bool { return slices.Contains(c.Segments[front].Reach, segment) }
		switch {
		case slices.ContainsFunc(SortedKeys(claims), reaches):
		case site:
			have = append(have, segment)
		default:
			redirect = append(redirect, segment)
		}
	}
	if len(have) == 0 {
		have = redirect
	}
	if len(have) != 1 {
		return ""
	}
	return have[0]
}
