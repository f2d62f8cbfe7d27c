package rules

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/names"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// DecisionTable is the compiled form of a bridge's steer rules and policy: plain data
// that both data paths execute in the same way. It is compiled again when a segment
// becomes available, or is no longer available.
type DecisionTable struct {
	Rules   []SteerRule
	Index   slotIndex
	Slots   []*iface.Iface // the VNICs that the policy chooses from; a VNIC may be in several slots
	Weights []int64        // of the slots, for SlotLeastFlows
	named   bool           // there are rules with names
	nic     *iface.Iface   // its gauges hold the turn of SlotInTurn, which outlives the table
	key     Key
}

// slotIndex says how a policy finds the slot for a new flow. enum slot_index of bpf/types.h
// has the same values. For most policies, a weight is a number of slots.
type slotIndex uint8

const (
	SlotFirst      slotIndex = iota
	SlotInTurn               // one after the other
	SlotRandom               // any, with equal probability
	SlotClientHash           // by a hash of the client's site: its address, or in IPv6 the first 64 bits
	SlotFlowHash             // by a hash of the whole tuple
	SlotLeastFlows           // the one whose segment has the fewest open flows for its weight
)

var slotIndexes = map[config.PolicyName]slotIndex{
	config.PolicyFirst: SlotFirst, config.PolicyRoundRobin: SlotInTurn, config.PolicyWeightedRoundRobin: SlotInTurn,
	config.PolicyRandom: SlotRandom, config.PolicyLeastConn: SlotLeastFlows,
	config.PolicyIPHash: SlotClientHash, config.PolicyFlowHash: SlotFlowHash,
}

// SteerRule assigns the flows that match all of its matchers to a segment. A matcher without
// values matches everything.
type SteerRule struct {
	Clients   []netip.Prefix
	Ports     []config.PortRange
	Protocols []config.Protocol
	Names     *names.Set[struct{}] // nil: any name, or none
	Label     string               // the first of the names, by which flows are counted
	Segment   *iface.Iface         // the VNIC; nil if the segment is not available
}

// Candidate is a segment that a decision can choose.
type Candidate struct {
	Name   string
	Iface  *iface.Iface // the VNIC
	Weight int
}

// CompileDecisions compiles the decision table of a bridge. available are the segments that
// may get new flows now, by name.
func CompileDecisions(b *config.Bridge, available map[string]Candidate, nic *iface.Iface, key Key) *DecisionTable {
	t := &DecisionTable{nic: nic, key: key}
	for _, r := range b.Rules() {
		set, label := namesOf(&r)
		t.Rules = append(t.Rules, SteerRule{r.Clients, r.PortsOrDefault(), r.Protocols, set, label, available[r.Segment].Iface})
		t.named = t.named || len(r.Names) > 0
	}
	if b.LBPolicy == nil {
		return t
	}
	var pool []Candidate
	for _, name := range b.LBPolicy.Segments {
		if c, ok := available[name]; ok {
			pool = append(pool, c)
		}
	}
	t.Index = slotIndexes[b.LBPolicy.Policy]
	switch b.LBPolicy.Policy {
	case config.PolicyWeightedRoundRobin, config.PolicyRandom:
		for _, i := range interleave(pool) {
			t.Slots = append(t.Slots, pool[i].Iface)
		}
	case config.PolicyIPHash, config.PolicyFlowHash:
		t.Slots = maglev(pool)
	default:
		for _, c := range pool {
			t.Slots = append(t.Slots, c.Iface)
			t.Weights = append(t.Weights, int64(c.Weight))
		}
	}
	return t
}

// namesOf returns the names of a rule, and the first of them; nil if it has none.
func namesOf(r *config.Rule) (set *names.Set[struct{}], first string) {
	if len(r.Names) == 0 {
		return nil, ""
	}
	set = new(names.Set[struct{}])
	for _, pattern := range r.Names {
		set.Add(pattern, struct{}{})
	}
	return set, r.Names[0]
}

// interleave returns a sequence of indexes of the candidates. Each candidate has as many
// turns as its weight, evenly spread (smooth weighted round-robin, as in nginx).
func interleave(pool []Candidate) (turns []int) {
	total := 0
	for _, c := range pool {
		total += c.Weight
	}
	credit := make([]int, len(pool))
	for range total {
		best := 0
		for i, c := range pool {
			credit[i] += c.Weight
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		turns = append(turns, best)
	}
	return turns
}

// Decide returns the VNIC of the segment for a new flow, or nil if no segment gets it. The
// first steer rule that matches decides; if none matches, the policy does. If the rule's
// segment is not available, the flow gets no segment, because the admin meant no other one.
//
// lasting tells that the decision depends on nothing but the flow and the rules. An unknown
// flow can then be picked up, because it had the same segment before (F5).
func (t *DecisionTable) Decide(flow packet.Tuple) (segment *iface.Iface, lasting bool) {
	if segment, lasting = t.Lasting(flow); lasting {
		return segment, true
	}
	return t.balance(flow), false
}

// NeedsName tells whether the segment of a new flow depends on the host name that the client asks
// for: [DecisionTable.DecideNamed].
func (t *DecisionTable) NeedsName(flow packet.Tuple) bool {
	if !t.named {
		return false
	}
	r := t.first(flow)
	return r != nil && r.Names != nil
}

// DecideNamed is Decide for a flow whose client has asked for a host name; "": for none. The name
// itself counts before a pattern with a wildcard, whichever rule comes first (N1). label is that of
// the rule, or "" if no rule with names matches.
func (t *DecisionTable) DecideNamed(flow packet.Tuple, name string) (segment *iface.Iface, label string) {
	var wild *SteerRule // or the rule without names
	for i := range t.Rules {
		r := &t.Rules[i]
		if !r.matches(flow) {
			continue
		}
		if r.Names == nil {
			wild = cmp.Or(wild, r)
			break
		}
		_, exact, ok := r.Names.Find(name)
		if ok && exact {
			return r.Segment, r.Label
		}
		if ok && wild == nil {
			wild = r
		}
	}
	if wild != nil {
		return wild.Segment, wild.Label
	}
	return t.balance(flow), ""
}

// Lasting returns the segment that a flow always gets under these rules. ok is false if the
// segment depends on more, such as on the load, or on a name that the packets of the flow no
// longer have.
func (t *DecisionTable) Lasting(flow packet.Tuple) (segment *iface.Iface, ok bool) {
	if t.NeedsName(flow) {
		return nil, false
	}
	if segment, ok = t.Steered(flow); ok {
		return segment, true
	}
	if t.Index == SlotClientHash || t.Index == SlotFlowHash {
		return t.balance(flow), true
	}
	return nil, false
}

// Steered returns the segment of the first steer rule that matches a flow: nil if the
// segment is not available. ok is false if no rule matches.
func (t *DecisionTable) Steered(flow packet.Tuple) (segment *iface.Iface, ok bool) {
	if r := t.first(flow); r != nil {
		return r.Segment, true
	}
	return nil, false
}

// first returns the first rule that matches a flow, whatever name its client asks for, or nil.
func (t *DecisionTable) first(flow packet.Tuple) *SteerRule {
	for i := range t.Rules {
		if r := &t.Rules[i]; r.matches(flow) {
			return r
		}
	}
	return nil
}

func (r *SteerRule) matches(flow packet.Tuple) bool {
	if len(r.Protocols) > 0 && !slices.Contains(r.Protocols, flow.Proto) {
		return false
	}
	if len(r.Ports) > 0 && !AnyPortContains(r.Ports, flow) {
		return false
	}
	return len(r.Clients) == 0 || slices.ContainsFunc(r.Clients, func(p netip.Prefix) bool {
		return p.Contains(flow.Src.Netip())
	})
}

// AnyPortContains tells whether a flow's destination port lies in one of the ranges. It is
// false for ICMP, which has no ports.
func AnyPortContains(ranges []config.PortRange, flow packet.Tuple) bool {
	return flow.Proto != config.ICMP && slices.ContainsFunc(ranges, func(r config.PortRange) bool {
		return r.Contains(flow.Proto, flow.Dport)
	})
}

func (t *DecisionTable) balance(flow packet.Tuple) *iface.Iface {
	n := uint64(len(t.Slots))
	if n == 0 {
		return nil
	}
	switch t.Index {
	case SlotInTurn:
		return t.Slots[uint64(t.nic.Gauges().Turn.Add(1)-1)%n]
	case SlotRandom:
		return t.Slots[rand.Uint64N(n)]
	case SlotClientHash:
		site := packet.SiteOf(flow.Src)
		return t.Slots[t.key.hash(site[:])%n]
	case SlotFlowHash:
		return t.Slots[t.key.hashTuple(flow)%n]
	case SlotLeastFlows:
		return t.leastLoaded()
	default:
		return t.Slots[0]
	}
}

// leastLoaded returns the segment with the fewest open flows, of both families, for its weight.
func (t *DecisionTable) leastLoaded() *iface.Iface {
	best := 0
	for i, p := range t.Slots {
		if p.Load()*t.Weights[best] < t.Slots[best].Load()*t.Weights[i] {
			best = i
		}
	}
	return t.Slots[best]
}
