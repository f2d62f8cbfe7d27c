package vnicbridge

import (
	"math/rand/v2"
	"net/netip"
	"slices"
)

// decisionTable is the compiled form of a bridge's steer rules and policy: plain data
// that both data paths execute in the same way. It is compiled again when a segment
// becomes available, or is no longer available.
type decisionTable struct {
	rules   []steerRule
	index   slotIndex
	slots   []*port // what the policy chooses from
	weights []int64 // of the slots, for slotLeastFlows
	nic     *port   // it has the turn of slotInTurn, which outlives the table
	key     hashKey
}

// slotIndex is how a policy finds the slot for a new flow. A weight is a number of
// slots.
type slotIndex uint8

const (
	slotFirst      slotIndex = iota
	slotInTurn               // one after the other
	slotRandom               // any
	slotClientHash           // by a hash of the client's address
	slotFlowHash             // by a hash of the whole tuple
	slotLeastFlows           // the one whose segment has the fewest flows
)

var slotIndexes = map[PolicyName]slotIndex{
	PolicyFirst: slotFirst, PolicyRoundRobin: slotInTurn, PolicyWeightedRoundRobin: slotInTurn,
	PolicyRandom: slotRandom, PolicyLeastConn: slotLeastFlows,
	PolicyIPHash: slotClientHash, PolicyFlowHash: slotFlowHash,
}

// steerRule gives the flows that match all of its matchers to a segment. A
// matcher without values matches everything.
type steerRule struct {
	clients   []netip.Prefix
	ports     []PortRange
	protocols []Protocol
	segment   *port // nil: it is not available
}

// candidate is a segment that a decision may give.
type candidate struct {
	name   string
	port   *port
	weight int
}

// compileDecisions makes the table of a bridge. The candidates are the segments
// that are available now.
func compileDecisions(b *Bridge, available map[string]candidate, nic *port, key hashKey) *decisionTable {
	t := &decisionTable{nic: nic, key: key}
	for _, r := range b.Steer {
		t.rules = append(t.rules, steerRule{r.Clients, r.Ports, r.Protocols, available[r.Segment].port})
	}
	if b.LBPolicy == nil {
		return t
	}
	var pool []candidate
	for _, name := range b.LBPolicy.Segments {
		if c, ok := available[name]; ok {
			pool = append(pool, c)
		}
	}
	t.index = slotIndexes[b.LBPolicy.Policy]
	switch b.LBPolicy.Policy {
	case PolicyWeightedRoundRobin, PolicyRandom:
		for _, i := range interleave(pool) {
			t.slots = append(t.slots, pool[i].port)
		}
	case PolicyIPHash, PolicyFlowHash:
		t.slots = maglev(pool)
	default:
		for _, c := range pool {
			t.slots = append(t.slots, c.port)
			t.weights = append(t.weights, int64(c.weight))
		}
	}
	return t
}

// interleave returns a sequence of indexes of the candidates. Each candidate has as many
// turns as its weight, evenly spread (smooth weighted round-robin, as in nginx).
func interleave(pool []candidate) (turns []int) {
	total := 0
	for _, c := range pool {
		total += c.weight
	}
	credit := make([]int, len(pool))
	for range total {
		best := 0
		for i, c := range pool {
			credit[i] += c.weight
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		turns = append(turns, best)
	}
	return turns
}

// decide returns the port of the segment for a new flow, or nil. The first steer rule
// that matches decides, or else the policy. If the rule's segment is not available, the
// flow gets none, because no other segment was meant.
//
// lasting tells whether the same flow always gets the same segment, so that a flow that
// is unknown can be picked up again (F5).
func (t *decisionTable) decide(flow tuple) (segment *port, lasting bool) {
	if segment, lasting = t.lasting(flow); lasting {
		return segment, true
	}
	return t.balance(flow), false
}

// lasting returns the segment that a flow always gets, if there is one.
func (t *decisionTable) lasting(flow tuple) (segment *port, ok bool) {
	if segment, ok = t.steered(flow); ok {
		return segment, true
	}
	if t.index == slotClientHash || t.index == slotFlowHash {
		return t.balance(flow), true
	}
	return nil, false
}

// steered returns the segment of the first steer rule that matches a flow, if one does.
func (t *decisionTable) steered(flow tuple) (segment *port, ok bool) {
	for i := range t.rules {
		if r := &t.rules[i]; r.matches(flow) {
			return r.segment, true
		}
	}
	return nil, false
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

func (t *decisionTable) balance(flow tuple) *port {
	n := uint64(len(t.slots))
	if n == 0 {
		return nil
	}
	switch t.index {
	case slotInTurn:
		return t.slots[uint64(t.nic.gauges().turn.Add(1)-1)%n]
	case slotRandom:
		return t.slots[rand.Uint64N(n)]
	case slotClientHash:
		return t.slots[t.key.hash(flow.src[:])%n]
	case slotFlowHash:
		return t.slots[t.key.hashTuple(flow)%n]
	case slotLeastFlows:
		return t.leastLoaded()
	default:
		return t.slots[0]
	}
}

// leastLoaded returns the segment with the fewest open flows for its weight.
func (t *decisionTable) leastLoaded() *port {
	best := 0
	for i, p := range t.slots {
		if p.gauges().load.Load()*t.weights[best] < t.slots[best].gauges().load.Load()*t.weights[i] {
			best = i
		}
	}
	return t.slots[best]
}
