package vnicbridge

import "fmt"

// State says whether a segment gets new flows. It is set by hand, survives a
// reload, and is forgotten when the plane is closed or no living configuration has
// the segment.
type State uint8

// The states of a segment.
const (
	Active   State = iota // it gets new flows
	Draining              // it gets none; those that live go on
	Stopped               // the same, and its own servers have been stopped
)

var stateNames = [...]string{Active: "active", Draining: "draining", Stopped: "stopped"}

// String returns the state's name.
func (s State) String() string { return stateNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(text []byte) error {
	for state, name := range stateNames {
		if name == string(text) {
			*s = State(state)
			return nil
		}
	}
	return fmt.Errorf("unknown state %q", text)
}

// State returns the state of a segment; of an unknown one it is Active.
func (p *Plane) State(segment string) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.states[segment]
}

// SetState changes whether a segment gets new flows, from the next packet on.
// Flows that live keep their segment (F10). The error is for a segment that the
// configuration in force does not have.
func (p *Plane) SetState(segment string, state State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.segments[segment] == nil {
		return UnknownSegment(segment, sortedKeys(p.segments))
	}
	before := p.states[segment]
	p.states[segment] = state
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err != nil {
		p.states[segment] = before
		return err
	}
	p.setRules(rules)
	if before != state {
		p.log.Info("the segment's state changed", "segment", segment, "from", before, "to", state)
	}
	return nil
}
