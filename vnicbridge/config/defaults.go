package config

import "slices"

// MaxFlowsOrDefault returns the bound of the flow table.
func (c *Config) MaxFlowsOrDefault() int {
	if c.MaxFlows == 0 {
		return DefaultMaxFlows
	}
	return c.MaxFlows
}

// HasIPv6 tells whether there can be IPv6 flows: a bridge has an IPv6 address, or two segments
// have one of which one may reach the other.
func (c *Config) HasIPv6() bool {
	for _, b := range c.Bridges {
		if b.Address(IPv6).IsValid() {
			return true
		}
	}
	for name := range c.Segments {
		if len(c.peersOfFamily(name, IPv6)) > 0 {
			return true
		}
	}
	return false
}

// HasNames tells whether host names choose the segments of flows.
func (c *Config) HasNames() bool {
	for _, b := range c.Bridges {
		if slices.ContainsFunc(b.Steer, func(r Rule) bool { return len(r.Names) > 0 }) {
			return true
		}
	}
	return false
}

// PortsOrDefault returns the ports to which the rule applies. If there are none, it applies to
// every port, and to ICMP.
func (r *Rule) PortsOrDefault() []PortRange {
	if len(r.Ports) == 0 && len(r.Names) > 0 {
		return []PortRange{{TCP, 80, 80}, {TCP, 443, 443}, {UDP, 443, 443}}
	}
	return r.Ports
}

// WeightOrDefault returns the segment's configured share of new flows.
func (s *Segment) WeightOrDefault() int { return max(s.Weight, 1) }

// EgressOrDefault returns where the segment may open flows to.
func (s *Segment) EgressOrDefault() Egress {
	if s.Egress == "" {
		return EgressGateway
	}
	return s.Egress
}
