package config

import (
	"slices"
	"strings"
)

// Chooses tells whether a bridge's policy chooses from a segment, among others.
func (b *Bridge) Chooses(segment string) bool {
	return b != nil && b.LBPolicy != nil && slices.Contains(b.LBPolicy.Segments, segment)
}

// Preferring is the policy that gives every flow to one segment while that is
// available, and else to the others in their order.
func (p *Policy) Preferring(segment string) *Policy {
	others := slices.DeleteFunc(slices.Clone(p.Segments), func(s string) bool { return s == segment })
	return &Policy{PolicyFirst, append([]string{segment}, others...)}
}

// String returns the policy as a Caddyfile has it.
func (p *Policy) String() string { return string(p.Policy) + " " + strings.Join(p.Segments, " ") }
