package vnicbridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// overrides are what was set by hand, in place of what the configuration says.
// They hold over reloads, and are forgotten when the plane is closed or no living
// configuration has what they are about.
type overrides struct {
	states   map[string]config.State // of segments, where it is not Active
	weights  map[string]int          // of segments
	switches map[string]string       // of bridges, to segments
}

func newOverrides() overrides {
	return overrides{make(map[string]config.State), make(map[string]int), make(map[string]string)}
}

func (o *overrides) clear() {
	clear(o.states)
	clear(o.weights)
	clear(o.switches)
}

// forget drops what is about none of the configurations.
func (o *overrides) forget(living []*config.Config) {
	none := func(has func(*config.Config) bool) bool { return !slices.ContainsFunc(living, has) }
	unknown := func(segment string) bool {
		return none(func(c *config.Config) bool { return c.Segments[segment] != nil })
	}
	maps.DeleteFunc(o.states, func(segment string, _ config.State) bool { return unknown(segment) })
	maps.DeleteFunc(o.weights, func(segment string, _ int) bool { return unknown(segment) })
	maps.DeleteFunc(o.switches, func(bridge, segment string) bool {
		return none(func(c *config.Config) bool { return c.Bridges[bridge].Chooses(segment) })
	})
}

// weight is the share of a segment that is in force.
func (o *overrides) weight(cfg *config.Config, segment string) int {
	if w := o.weights[segment]; w != 0 {
		return w
	}
	return cfg.Segments[segment].WeightOrDefault()
}

// switched is the segment that a bridge is switched to, or "". A configuration whose
// policy does not name the segment is not switched.
func (o *overrides) switched(cfg *config.Config, bridge string) string {
	if segment := o.switches[bridge]; cfg.Bridges[bridge].Chooses(segment) {
		return segment
	}
	return ""
}

// bridge is a bridge with the policy that is in force.
func (o *overrides) bridge(cfg *config.Config, name string) *config.Bridge {
	b := *cfg.Bridges[name]
	if segment := o.switched(cfg, name); segment != "" {
		b.LBPolicy = b.LBPolicy.Preferring(segment)
	}
	return &b
}

// withOverrides is a configuration with what was set by hand in place of what it says.
func (o *overrides) withOverrides(cfg *config.Config) *config.Config {
	c := *cfg
	c.Segments, c.Bridges = maps.Clone(cfg.Segments), maps.Clone(cfg.Bridges)
	for name := range c.Segments {
		s := *cfg.Segments[name]
		s.Weight = o.weight(cfg, name)
		c.Segments[name] = &s
	}
	for name := range c.Bridges {
		c.Bridges[name] = o.bridge(cfg, name)
	}
	return &c
}

// State returns the state of a segment; of an unknown one it is Active.
func (p *Plane) State(segment string) config.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.states[segment]
}

// SetState changes whether a segment gets new flows, from the next packet on.
// Flows that live keep their segment (F10). The error is for a segment that the
// configuration in force does not have.
func (p *Plane) SetState(segment string, state config.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.segments[segment] == nil {
		return config.UnknownSegment(segment, config.SortedKeys(p.segments))
	}
	if p.states[segment] == config.Stopped && state != config.Stopped {
		p.forgive(p.segments[segment].iface) // what was found before the stop is out of date
	}
	before, err := override(p, p.states, segment, state)
	if err == nil && before != state {
		p.acts.Info("the segment's state changed", "segment", segment, "from", before, "to", state)
	}
	return err
}

// SetWeight changes a segment's share of new flows, 1 to [MaxWeight], from the next
// one on; 0 is the share of the configuration again. Flows that live keep their
// segment (F10). It matters under the policies that look at weights.
//
// It holds over reloads, also over one with another weight, and is forgotten as a
// [State] is. The error is for a segment that the configuration in force does not
// have, or a [*ConfigError] for a weight that cannot be.
func (p *Plane) SetWeight(segment string, weight int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.segments[segment] == nil {
		return config.UnknownSegment(segment, config.SortedKeys(p.segments))
	}
	if err := config.ValidWeight(weight); err != nil {
		return &config.Error{Part: "segment", Name: segment, Err: err}
	}
	before, err := override(p, p.weights, segment, weight)
	if err == nil && before != weight {
		p.acts.Info("the segment's weight changed", "segment", segment, "weight", p.weight(p.cfg, segment))
	}
	return err
}

// Switch gives the new flows of a bridge to one of the segments of its policy, from
// the next flow on, whatever the policy says; with no segment, "", the policy
// chooses again. Steer rules go on as they were, and flows that live keep their
// segment (F10). While the segment is not available, the others of the policy take
// its place, the first one first.
//
// It holds over reloads for as long as the bridge's policy names the segment, and
// is forgotten when no living configuration's does, and when the plane is closed.
// The error is for a bridge that the configuration in force does not have, or a
// [*ConfigError] for a segment that is not in its policy.
func (p *Plane) Switch(bridge, segment string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bridges[bridge] == nil {
		return config.UnknownBridge(bridge, config.SortedKeys(p.bridges))
	}
	b := p.cfg.Bridges[bridge]
	if segment != "" && !b.Chooses(segment) {
		return &config.Error{Part: "bridge", Name: bridge, Err: whyNotSwitched(b, segment)}
	}
	before, err := override(p, p.switches, bridge, segment)
	if err == nil && before != segment {
		p.acts.Info("the bridge was switched", "bridge", bridge, "from", orPolicy(before), "to", orPolicy(segment))
	}
	return err
}

// DrainFlows lets the clients of a segment that gets no new flows choose again, as far as
// they have no connection: UDP and echo. The error is for a segment that the configuration
// in force does not have.
func (p *Plane) DrainFlows(segment string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.segments[segment]
	if s == nil {
		return config.UnknownSegment(segment, config.SortedKeys(p.segments))
	}
	p.path.RechooseAt(s.iface)
	return nil
}

// SwitchFlows lets the clients of a bridge that was switched choose again, as far as they
// have no connection, no steer rule has chosen for them, and they would come to another
// segment. The error is for a bridge that the configuration in force does not have.
func (p *Plane) SwitchFlows(bridge string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bridges[bridge]
	if b == nil {
		return config.UnknownBridge(bridge, config.SortedKeys(p.bridges))
	}
	p.path.RechooseSwitched(b.iface)
	return nil
}

// orPolicy is what a bridge is switched to, for the log.
func orPolicy(segment string) string {
	if segment == "" {
		return "lb_policy"
	}
	return segment
}

// whyNotSwitched says why a bridge cannot be switched to a segment.
func whyNotSwitched(b *config.Bridge, segment string) error {
	if b.LBPolicy == nil {
		return errors.New("there is no lb_policy to override: steer rules alone give flows a segment, and they are not switched")
	}
	return fmt.Errorf("lb_policy %s does not name segment %q: add it there to switch to it", b.LBPolicy, segment)
}

// override sets something by hand, and puts it in force; the zero value leaves it
// to the configuration. On error all is as it was.
func override[V comparable](p *Plane, values map[string]V, name string, value V) (before V, err error) {
	before = values[name]
	set(values, name, value)
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err != nil {
		set(values, name, before)
		return before, err
	}
	p.datapaths.setRules(rules)
	return before, nil
}

// set sets a value; the zero value is none.
func set[V comparable](values map[string]V, name string, value V) {
	if value == *new(V) {
		delete(values, name)
	} else {
		values[name] = value
	}
}
