package vnicbridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// overrides are what an admin has set by hand, in place of what the configuration says. They
// survive reloads. They are forgotten when the plane is closed, or when no living
// configuration has the segment or the bridge.
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

// forget drops the settings of segments and bridges that none of the configurations has.
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

// weight returns the share of a segment that is in force.
func (o *overrides) weight(cfg *config.Config, segment string) int {
	if w := o.weights[segment]; w != 0 {
		return w
	}
	return cfg.Segments[segment].WeightOrDefault()
}

// switched returns the segment that a bridge is switched to, or "". If the configuration's
// policy does not name the segment, the switch has no effect.
func (o *overrides) switched(cfg *config.Config, bridge string) string {
	if segment := o.switches[bridge]; cfg.Bridges[bridge].Chooses(segment) {
		return segment
	}
	return ""
}

// bridge returns a bridge with the policy that is in force.
func (o *overrides) bridge(cfg *config.Config, name string) *config.Bridge {
	b := *cfg.Bridges[name]
	if segment := o.switched(cfg, name); segment != "" {
		b.LBPolicy = b.LBPolicy.Preferring(segment)
	}
	return &b
}

// withOverrides returns a copy of a configuration in which the settings made by hand replace
// the configured ones.
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

// State returns the state of a segment. The state of an unknown segment is Active.
func (p *Plane) State(segment string) config.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.states[segment]
}

// SetState changes whether a segment gets new flows, from the next packet on. Established
// flows keep their segment (F10). The error says that the configuration in force does not
// have the segment.
func (p *Plane) SetState(segment string, state config.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.segments[segment] == nil {
		return config.UnknownSegment(segment, config.SortedKeys(p.segments))
	}
	if p.states[segment] == config.Stopped && state != config.Stopped {
		p.forgive(p.segments[segment].iface) // results from before the stop are out of date
	}
	before, err := override(p, p.states, segment, state)
	if err == nil && before != state {
		p.acts.Info("the segment's state changed", "segment", segment, "from", before, "to", state)
	}
	return err
}

// SetWeight changes a segment's share of new flows, 1 to [config.MaxWeight], from the next
// flow on. 0 restores the configured share. Established flows keep their segment (F10). The
// share has an effect only under policies that use weights.
//
// The share survives reloads, even one that configures another share, and is forgotten as a
// [config.State] is. The error says that the configuration in force does not have the
// segment, or is a [*config.Error] if the weight is out of range.
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

// Switch gives the new flows of a bridge to one of the segments of its policy, from the next
// flow on, whatever the policy says. If segment is "", the policy chooses again. Steer rules
// still come first, and established flows keep their segment (F10). While the segment is not
// available, the first available one of the policy's other segments replaces it.
//
// The switch survives reloads while the bridge's policy names the segment. It is forgotten
// when no living configuration's policy names it, and when the plane is closed. The error
// says that the configuration in force does not have the bridge, or is a [*config.Error] if
// the policy does not name the segment.
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

// DrainFlows ends the UDP and echo flows from the network to a segment that gets no new
// flows, so that the policy chooses again at the client's next packet. The error says that
// the configuration in force does not have the segment.
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

// SwitchFlows ends the UDP and echo flows of a bridge that was switched, so that the client's
// next packet goes to the new segment. A flow stays if a steer rule chose its segment, or if
// it has the new segment already. The error says that the configuration in force does not
// have the bridge.
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

// orPolicy returns what a bridge is switched to, for the log.
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

// override sets a value by hand and puts it in force. The zero value restores the configured
// one. It returns the value from before. On error, nothing changes.
func override[V comparable](p *Plane, values map[string]V, name string, value V) (before V, err error) {
	before = values[name]
	if p.yielded.Load() {
		return before, ErrYielded
	}
	set(values, name, value)
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err != nil {
		set(values, name, before)
		return before, err
	}
	p.datapaths.setRules(rules)
	return before, nil
}

// set sets a value, or removes it if it is zero.
func set[V comparable](values map[string]V, name string, value V) {
	if value == *new(V) {
		delete(values, name)
	} else {
		values[name] = value
	}
}
