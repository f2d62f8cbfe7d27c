package vnicbridge

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// compile makes the ruleset of a configuration for its devices. Retired devices carry the
// flows that they have, and get no new flows.
func (p *Plane) compile(cfg *config.Config, d, retired devices) (*rules.Ruleset, error) {
	host, err := p.hostAddresses()
	if err != nil {
		return nil, err
	}
	in := p.ruleInputs(p.withOverrides(cfg), d)
	in.Host, in.Retired = host, retired.ifaces()
	for name, s := range d.segments {
		in.Available[name] = p.takesNewFlows(name, s)
	}
	return rules.Compile(in), nil
}

// takesNewFlows tells whether a segment is active and healthy.
func (p *Plane) takesNewFlows(name string, s *segment) bool {
	return p.states[name] == config.Active && p.health.Condition(s.iface).Problem == ""
}

// successorRules returns the rules with which another process would begin under this
// configuration: every segment is available, and nothing is set by hand.
func (p *Plane) successorRules() *rules.Ruleset {
	in := p.ruleInputs(p.cfg, p.devices)
	for name := range p.segments {
		in.Available[name] = true
	}
	return rules.Compile(in)
}

// ruleInputs returns what the rules of a configuration are compiled from. The caller adds
// which segments are available.
func (p *Plane) ruleInputs(cfg *config.Config, d devices) rules.Inputs {
	in := rules.Inputs{
		Config: cfg, Nics: make(map[string]*iface.Iface), Vnics: make(map[string]*iface.Iface),
		Available: make(map[string]bool), Key: p.keyOf(cfg),
	}
	for name, b := range d.bridges {
		in.Nics[name] = b.iface
	}
	for name, s := range d.segments {
		in.Vnics[name] = s.iface
	}
	return in
}

// hostAddresses returns the addresses of the host, with their networks. Link-local addresses
// are not among them: another host may have the same one on another link, a router's fe80::1
// for example.
func (p *Plane) hostAddresses() (addresses []netip.Prefix, err error) {
	host, err := p.session.machine.HostPrefixes()
	for _, h := range host {
		if a := h.Prefix.Addr(); a.Is4() || !a.IsLinkLocalUnicast() {
			addresses = append(addresses, h.Prefix)
		}
	}
	return addresses, err
}
