package vnicbridge

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// decisionTable is what the steer rules and the policy of a bridge compile to:
// plain data that every data path executes in the same way.
type decisionTable struct {
	rules  []steerRule
	policy PolicyName
	pool   []*port // what the policy chooses from, in order
	turn   *atomic.Uint32
}

// steerRule gives the flows that match all of its matchers to a segment. A
// matcher without values matches everything.
type steerRule struct {
	clients   []netip.Prefix
	ports     []PortRange
	protocols []Protocol
	segment   *port
}

// compileDecisions resolves the names of segments in a bridge's rules and policy.
func compileDecisions(b *Bridge, segments map[string]*port) *decisionTable {
	t := &decisionTable{turn: new(atomic.Uint32)}
	for _, r := range b.Steer {
		t.rules = append(t.rules, steerRule{r.Clients, r.Ports, r.Protocols, segments[r.Segment]})
	}
	if b.LBPolicy != nil {
		t.policy = b.LBPolicy.Policy
		for _, name := range b.LBPolicy.Segments {
			t.pool = append(t.pool, segments[name])
		}
	}
	return t
}

// decide returns the segment's port for a new flow, or nil: the first steer rule
// that matches decides, else the policy. A rule whose segment is not available
// gives nothing; it does not fall through to a segment that was not meant.
func (t *decisionTable) decide(flow tuple) *port {
	for i := range t.rules {
		if r := &t.rules[i]; r.matches(flow) {
			return available(r.segment)
		}
	}
	return t.balance()
}

func (r *steerRule) matches(flow tuple) bool {
	if len(r.protocols) > 0 && !slices.Contains(r.protocols, flow.proto) {
		return false
	}
	if len(r.ports) > 0 && !anyPortContains(r.ports, flow) {
		return false
	}
	return len(r.clients) == 0 || slices.ContainsFunc(r.clients, func(p netip.Prefix) bool {
		return p.Contains(flow.src.netip())
	})
}

// anyPortContains tells whether a flow's destination port lies in one of the
// ranges. ICMP has no ports.
func anyPortContains(ranges []PortRange, flow tuple) bool {
	return flow.proto != ICMP && slices.ContainsFunc(ranges, func(r PortRange) bool {
		return r.Contains(flow.proto, flow.dport)
	})
}

func (t *decisionTable) balance() *port {
	n := uint32(len(t.pool))
	if n == 0 {
		return nil
	}
	var start uint32
	if t.policy == PolicyRoundRobin {
		start = t.turn.Add(1) - 1
	}
	for i := range n {
		if segment := available(t.pool[(start+i)%n]); segment != nil {
			return segment
		}
	}
	return nil
}

// available returns a segment's port if it can take new flows.
func available(segment *port) *port {
	if segment == nil || segment.closed.Load() {
		return nil
	}
	return segment
}
