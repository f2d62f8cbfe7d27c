package vnicbridge

import "net/netip"

// compile makes the ruleset of a configuration for its living devices. Retired
// ones carry the flows that they have, and get no new ones.
func (p *Plane) compile(cfg *Config, d, retired devices) (*ruleset, error) {
	host, err := p.hostAddresses()
	if err != nil {
		return nil, err
	}
	in := p.ruleInputs(p.withOverrides(cfg), d)
	in.host, in.retired = host, retired.ports()
	for name, s := range d.segments {
		if p.states[name] == Active && p.health.condition(s.port).problem == "" {
			in.available[name] = true
		}
	}
	return compile(in), nil
}

// successorRules are those that another process with this configuration begins with: every
// segment is available, and what was set by hand is forgotten.
func (p *Plane) successorRules() *ruleset {
	in := p.ruleInputs(p.cfg, p.devices)
	for name := range p.segments {
		in.available[name] = true
	}
	return compile(in)
}

// ruleInputs are what the rules of a configuration follow from while no segment is
// available.
func (p *Plane) ruleInputs(cfg *Config, d devices) inputs {
	in := inputs{
		config: cfg, nics: make(map[string]*port), vnics: make(map[string]*port),
		available: make(map[string]bool), key: p.key,
	}
	for name, b := range d.bridges {
		in.nics[name] = b.port
	}
	for name, s := range d.segments {
		in.vnics[name] = s.port
	}
	return in
}

// hostAddresses are the addresses that the host has by itself, with their networks.
func (p *Plane) hostAddresses() (addresses []netip.Prefix, err error) {
	host, err := p.session.machine.hostPrefixes()
	for _, h := range host {
		addresses = append(addresses, h.prefix)
	}
	return addresses, err
}
