package config

import (
	"fmt"
	"slices"
	"strings"
)

// strayNames reports the host names of sites that a bridge steers elsewhere, although it gives
// flows to the sites' segment (N11).
func (c *Config) strayNames(bridge string, sites []Site) (findings []string) {
	b := c.Bridges[bridge]
	fix := ""
	switch i := b.steersSites(); {
	case i < 0:
		fix = ", or write `steer sites`"
	case len(c.siteRules(bridge, sites)) == 0:
		findings = append(findings, fmt.Sprintf("bridge %s: `steer sites` steers nothing, because no segment has a site with a host name of its own: put host names in the sites' addresses, or remove the line", bridge))
	}
	missing := c.missingRules(bridge, sites)
	for _, segment := range SortedKeys(missing) {
		findings = append(findings, fmt.Sprintf("segment %s: it has sites for %s, but bridge %s steers clients that ask for these names elsewhere: add `%s`%s",
			segment, abridged(missing[segment].Names, ", "), bridge, missing[segment].line(), fix))
	}
	return findings
}

// missingRules returns the rules that a bridge that steers by name lacks for the sites of its
// segments, by segment. Ports to which the segment gets no flows at all are another finding's.
// UDP ports do not count, because clients can do without HTTP/3.
func (c *Config) missingRules(bridge string, sites []Site) map[string]*Rule {
	b := c.Bridges[bridge]
	rules := b.Rules()
	if !slices.ContainsFunc(rules, func(r Rule) bool { return len(r.Names) > 0 }) {
		return nil
	}
	for i := range rules {
		rules[i].Names = slices.Sorted(slices.Values(rules[i].Names))
	}
	missing := make(map[string]*Rule)
	segments, fronts := b.segments(), c.fronted(sites)
	for _, s := range sites {
		if !slices.Contains(segments, s.Segment) {
			continue
		}
		for _, name := range s.Names {
			for _, ports := range s.Ports {
				if ports.Protocol != TCP || !b.gives(s.Segment, ports) ||
					fronts[behind{s.Segment, name}] || b.givesName(rules, s.Segment, name, ports) {
					continue
				}
				if missing[s.Segment] == nil {
					missing[s.Segment] = &Rule{Segment: s.Segment}
				}
				rule := missing[s.Segment]
				rule.Names, rule.Ports = append(rule.Names, name), append(rule.Ports, ports)
			}
		}
	}
	for _, rule := range missing {
		slices.Sort(rule.Names)
		slices.SortFunc(rule.Ports, comparePorts)
		rule.Names, rule.Ports = slices.Compact(rule.Names), slices.Compact(rule.Ports)
	}
	return missing
}

// behind is a host name of a segment that a front reaches.
type behind struct{ segment, name string }

// fronted returns the names that a front has, for each segment that it may reach: the front passes
// on what these segments serve under the same names.
func (c *Config) fronted(sites []Site) map[behind]bool {
	all := make(map[behind]bool)
	for _, s := range sites {
		front, ok := c.Segments[s.Segment]
		if !ok {
			continue
		}
		for _, segment := range front.Reach {
			for _, name := range s.Names {
				all[behind{segment, name}] = true
			}
		}
	}
	return all
}

// givesName tells whether a bridge may give a segment flows to ports whose clients ask for a
// name. rules are the bridge's, with normal and sorted names. A rule for some clients is
// believed to match, or not to, whichever is better for the segment.
func (b *Bridge) givesName(rules []Rule, segment, name string, ports PortRange) bool {
	var wild []string // the segments of the first pattern that matches, which gives way to the name itself (N1)
	for _, r := range rules {
		exact, pattern := r.hasName(name)
		nameless, own, all := len(r.Names) == 0, slices.Contains(r.Segments(), segment), r.covers(ports)
		switch {
		case !r.mayMatch(ports):
		case nameless && wild != nil:
			if slices.Contains(wild, segment) || all {
				return slices.Contains(wild, segment)
			}
		case nameless || exact:
			if own || all {
				return own
			}
		case pattern && wild == nil && (own || all):
			wild = r.Segments()
		}
	}
	if wild != nil {
		return slices.Contains(wild, segment)
	}
	return b.Chooses(segment)
}

// hasName tells whether a rule, whose names are sorted, has a name or a pattern itself, or a
// pattern that matches a name.
func (r *Rule) hasName(name string) (exact, pattern bool) {
	_, has := slices.BinarySearch(r.Names, name)
	if strings.HasPrefix(name, "*") {
		return false, has
	}
	_, domain, _ := strings.Cut(name, ".")
	_, pattern = slices.BinarySearch(r.Names, "*."+domain)
	return has, pattern
}

// line returns a rule of names and ports as a Caddyfile has it.
func (r *Rule) line() string {
	line := "steer " + r.Segment + " name " + abridged(r.Names, " ")
	byDefault := (&Rule{Names: r.Names}).PortsOrDefault()
	if slices.ContainsFunc(r.Ports, func(p PortRange) bool { return !slices.Contains(byDefault, p) }) {
		line += " port"
		for _, p := range r.Ports {
			line += " " + p.String()
		}
	}
	return line
}

// abridged returns the first few names of a list.
func abridged(names []string, separator string) string {
	const few = 3
	if len(names) > few {
		return strings.Join(names[:few], separator) + separator + "…"
	}
	return strings.Join(names, separator)
}
