package vnicbridge

func (c *Config) maxFlows() int {
	if c.MaxFlows == 0 {
		return DefaultMaxFlows
	}
	return c.MaxFlows
}

func (s *Segment) weight() int { return max(s.Weight, 1) }

func (s *Segment) egress() Egress {
	if s.Egress == "" {
		return EgressGateway
	}
	return s.Egress
}
