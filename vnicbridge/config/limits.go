package config

import (
	"fmt"
	"strings"
)

// MaxLimit is the highest number of flows, and of new flows a second, to which a segment can be
// limited.
const MaxLimit = 1_000_000_000

// Limits bound what a segment takes of what all segments share, both families and both
// directions together. 0 means no limit. What is beyond a limit is dropped without an answer, so
// that who tries again later succeeds.
type Limits struct {
	// How many flows the segment has at once. If it has that many, the oldest of its flows
	// that came to nothing makes room for a new one: a half-open or closing connection, or
	// another flow that has been idle for 5 s.
	Flows int `json:"flows,omitempty"`

	// How many of the segment's flows one client has at once: one address, or in IPv6 one /64,
	// which is what one customer or one host has. Flows that the segment opens itself, and
	// those of segments that may reach it, do not count.
	FlowsPerClient int `json:"flows_per_client,omitempty"`

	// How many flows of the segment begin in a second. After a pause, those of a second may
	// begin at once.
	New int `json:"new,omitempty"`
}

// String returns the limits as in the Caddyfile, without the word limit.
func (l Limits) String() string {
	var limits []string
	for _, limit := range l.each() {
		if limit.n > 0 {
			limits = append(limits, fmt.Sprintf("%s %d%s", limit.name, limit.n, limit.unit))
		}
	}
	return strings.Join(limits, ", ")
}

// namedLimit is one of the limits.
type namedLimit struct {
	name string
	n    int
	unit string
}

func (l Limits) each() []namedLimit {
	return []namedLimit{{"flows", l.Flows, ""}, {"flows_per_client", l.FlowsPerClient, ""}, {"new", l.New, "/s"}}
}

func (l Limits) validate() error {
	for _, limit := range l.each() {
		if limit.n < 0 || limit.n > MaxLimit {
			return fmt.Errorf("limit %s %d: want 1 to %d", limit.name, limit.n, MaxLimit)
		}
	}
	return nil
}
