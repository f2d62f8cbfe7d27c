package config

import (
	"slices"
	"strings"
)

// Chooses tells whether a segment is one of those that a bridge's policy chooses from.
func (b *Bridge) Chooses(segment string) bool {
	return b != nil && b.LBPolicy != nil && slices.Contains(b.LBPolicy.Segments, segment)
}

// Preferring returns the policy that gives every flow to one segment. While that is not
// available, the first available one of the others gets the flow.
func (p *Policy) Preferring(segment string) *Policy {
	others := slices.DeleteFunc(slices.Clone(p.Segments), func(s string) bool { return s == segment })
	return &Policy{PolicyFirst, append([]string{segment}, others...)}
}

// Segments returns the segments that matching flows can get, in order.
func (r *Rule) Segments() []string {
	if r.LBPolicy != nil {
		return r.LBPolicy.Segments
	}
	return []string{r.Segment}
}

// To tells what matching flows get, as in "a" or "first a b".
func (r *Rule) To() string {
	if r.LBPolicy != nil {
		return r.LBPolicy.String()
	}
	return r.Segment
}

// String returns the policy as a Caddyfile has it.
func (p *Policy) String() string { return string(p.Policy) + " " + strings.Join(p.Segments, " ") }
