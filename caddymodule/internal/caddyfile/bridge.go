package caddyfile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// bridge reads a bridge's block:
//
//	bridge <name> {
//	    nic <device>
//	    address <address>/<bits>…
//	    gateway <address>…
//	    link_local <address>
//	    deny <network>…
//	    steer <segment> <matcher> <values…>…
//	    steer sites
//	    lb_policy <policy> <segments…>
//	    on_no_segment reject|drop
//	    dad on|off
//	    failover keepalived <instance> { … }
//	    announce route table <number>
//	}
func (p *parser) bridge(d *caddyfile.Dispenser) error {
	name, err := p.bridges.define(d)
	if err != nil {
		return err
	}
	b := new(config.Bridge)
	p.config.Bridges[name] = b
	return parseBlock(d, "bridge", p.bridgeOptions(b))
}

func (p *parser) bridgeOptions(b *config.Bridge) options {
	return options{
		"nic":           {parse: word(&b.NIC)},
		"address":       {parse: values(&b.Addresses, address), list: true},
		"gateway":       {parse: values(&b.Gateways, gateway), list: true},
		"link_local":    {parse: value(&b.LinkLocal, linkLocal)},
		"deny":          {parse: values(&b.Deny, config.ParseClient), repeatable: true},
		"steer":         {parse: func(d *caddyfile.Dispenser) error { return p.steer(d, b) }, repeatable: true},
		"lb_policy":     {parse: func(d *caddyfile.Dispenser) error { return p.lbPolicy(d, b) }},
		"on_no_segment": {parse: word(&b.OnNoSegment)},
		"dad":           {parse: word(&b.DAD)},
		"failover":      {parse: func(d *caddyfile.Dispenser) error { return failover(d, b) }},
		"announce":      {parse: func(d *caddyfile.Dispenser) error { return announce(d, b) }},
	}
}

func gateway(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("gateway %q: want the router's address, as in 192.168.1.1 or fe80::1", text)
	}
	return addr, nil
}

func linkLocal(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("link_local %q: want an address of fe80::/10, as in fe80::2", text)
	}
	return addr, nil
}

// lbPolicy reads the name of a policy and the segments that the policy chooses from.
// Config.Validate checks the name.
func (p *parser) lbPolicy(d *caddyfile.Dispenser, b *config.Bridge) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	b.LBPolicy = &config.Policy{Policy: config.PolicyName(d.Val())}
	for d.NextArg() {
		if name := config.PolicyName(d.Val()); slices.Contains(config.Policies, name) && !slices.Contains(config.Policies, b.LBPolicy.Policy) {
			return d.Errf("lb_policy %s … %s: the policy comes first: lb_policy %s %s …", b.LBPolicy.Policy, name, name, b.LBPolicy.Policy)
		}
		b.LBPolicy.Segments = append(b.LBPolicy.Segments, p.refer(d))
	}
	return nil
}
