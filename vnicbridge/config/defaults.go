package config

func (c *Config) MaxFlowsOrDefault() int {
	if c.MaxFlows == 0 {
		return DefaultMaxFlows
	}
	return c.MaxFlows
}

func (s *Segment) WeightOrDefault() int { return max(s.Weight, 1) }

func (s *Segment) EgressOrDefault() Egress {
	if s.Egress == "" {
		return EgressGateway
	}
	return s.Egress
}
