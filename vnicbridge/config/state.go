package config

import "fmt"

// State says whether a segment gets new flows. It is set by hand, survives a
// reload, and is forgotten when the plane is closed or no living configuration has
// the segment.
type State uint8

// The states of a segment.
const (
	Active   State = iota // it gets new flows
	Draining              // it gets no new flows; established ones go on
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
