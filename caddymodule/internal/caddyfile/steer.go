package caddyfile

import (
	"cmp"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// steer reads a rule. Its matchers stand on one line, in a block, or both:
//
//	steer <segments…> <matcher> <values…>… {
//	    <matcher> <values…>…
//	}
//	steer sites
//
// With several segments, lb_policy and a policy may stand where a matcher can; the default is first.
//
// The values of one matcher are alternatives, and all matchers must match:
//
//	client   <address or network>…
//	name     <host name or *.host name>…
//	port     tcp|udp/<port or range>…
//	protocol tcp|udp|icmp…
func (p *parser) steer(d *caddyfile.Dispenser, b *config.Bridge) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	if d.Val() == "sites" && d.CountRemainingArgs() == 0 { // else a segment of this name
		b.Steer = append(b.Steer, config.Rule{Sites: true})
		return nil
	}
	b.Steer = append(b.Steer, config.Rule{})
	rule := &b.Steer[len(b.Steer)-1]
	segments := []string{p.refer(d)}
	if segments[0] == "sites" {
		p.uses[len(p.uses)-1].instead = sitesAlone
	}
	m := newMatchers(rule)
	for d.NextArg() {
		if _, ok := m.known[d.Val()]; ok {
			if err := m.line(d); err != nil {
				return err
			}
			break
		}
		segments = append(segments, p.refer(d))
		p.uses[len(p.uses)-1].instead = "it is no matcher either: want one of " + names(m.known)
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := m.line(d); err != nil {
			return err
		}
	}
	return m.setSegments(d, segments)
}

// sitesAlone is the fix for a `steer sites` with matchers.
const sitesAlone = "`steer sites` takes no matchers, because it steers the ports on which the sites listen: write it alone, or a rule of your own, as in `steer a name a.example.com port tcp/443`"

// setSegments sets what matching flows of the rule get.
func (m *matchers) setSegments(d *caddyfile.Dispenser, segments []string) error {
	switch {
	case len(segments) > 1:
		m.rule.LBPolicy = &config.Policy{Policy: cmp.Or(m.policy, config.PolicyFirst), Segments: segments}
	case m.policy != "":
		return d.Errf("lb_policy %s: name several segments, as in steer %s b name www.example.com lb_policy %[1]s", m.policy, segments[0])
	default:
		m.rule.Segment = segments[0]
	}
	return nil
}

// matchers reads the matchers and the policy of one rule.
type matchers struct {
	rule   *config.Rule
	policy config.PolicyName
	known  map[string]func(value string) error // adds a value
	seen   map[string]bool
}

func newMatchers(rule *config.Rule) *matchers {
	m := &matchers{rule: rule, seen: make(map[string]bool)}
	m.known = map[string]func(string) error{
		"client":    func(text string) error { return add(&rule.Clients, text, config.ParseClient) },
		"name":      func(text string) error { return add(&rule.Names, text, config.HostPattern) },
		"port":      func(text string) error { return add(&rule.Ports, text, config.ParsePortRange) },
		"protocol":  func(text string) error { return add(&rule.Protocols, text, protocol) },
		"lb_policy": m.setPolicy,
	}
	return m
}

func (m *matchers) setPolicy(text string) error {
	if m.policy != "" {
		return fmt.Errorf("lb_policy %s %s: want one policy; the segments stand before the matchers", m.policy, text)
	}
	m.policy = config.PolicyName(text)
	return nil
}

// line reads the matchers of one line, each with its values.
func (m *matchers) line(d *caddyfile.Dispenser) error {
	for more := true; more; {
		name := d.Val()
		addTo, ok := m.known[name]
		if !ok {
			return d.Errf("unknown matcher %q: want one of %s", name, names(m.known))
		}
		if m.seen[name] {
			return d.Errf("%s is given twice: put all its values after the first", name)
		}
		m.seen[name] = true
		var err error
		if more, err = m.values(d, addTo); err != nil {
			return err
		}
	}
	return nil
}

// values reads the values of one matcher. next tells whether another matcher follows.
func (m *matchers) values(d *caddyfile.Dispenser, addTo func(string) error) (next bool, err error) {
	name := d.Val()
	for count := 0; ; count++ {
		more := d.NextArg()
		if more {
			_, next = m.known[d.Val()]
		}
		if !more || next {
			if count == 0 {
				return false, d.Errf("%s has no value", name)
			}
			return next, nil
		}
		if err := addTo(d.Val()); err != nil {
			return false, d.WrapErr(err)
		}
	}
}

func add[T any](list *[]T, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	if err == nil {
		*list = append(*list, v)
	}
	return err
}

func protocol(text string) (p config.Protocol, err error) {
	err = p.UnmarshalText([]byte(text))
	return p, err
}
