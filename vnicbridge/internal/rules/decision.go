package rules

import (
	"cmp"
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
	Rules []SteerRule
	Balancer
	named bool // there are rules with names
}

// SteerRule assigns the flows that match all of its matchers to a segment. A matcher without
// values matches everything.
type SteerRule struct {
	Clients   []netip.Prefix
	Ports     []config.PortRange
	Protocols []config.Protocol
	Names     *names.Set[struct{}] // nil: any name, or none
	Label     string               // the first of the names, by which flows are counted
	Segment   *iface.Iface         // the VNIC; nil if the segment is not available, or Choice decides
	Choice    *Balancer            // of a rule with names; nil: there is one segment
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
	turn := func() uint32 { return nic.Gauges().Turn.Add(1) - 1 } // outlives the table, and the programs take turns too
	t := &DecisionTable{Balancer: compileBalancer(b.LBPolicy, available, turn, key)}
	for _, r := range b.Rules() {
		set, label := namesOf(&r)
		rule := SteerRule{r.Clients, r.PortsOrDefault(), r.Protocols, set, label, available[r.Segment].Iface, nil}
		if r.LBPolicy != nil {
			rule.Choice = new(compileBalancer(r.LBPolicy, available, ownTurn(), key))
		}
		t.Rules = append(t.Rules, rule)
		t.named = t.named || len(r.Names) > 0
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

// HasSegments tells whether some new flow gets a segment.
func (t *DecisionTable) HasSegments() bool {
	return len(t.Slots) > 0 || slices.ContainsFunc(t.Rules, func(r SteerRule) bool {
		return r.Segment != nil || r.Choice != nil && len(r.Choice.Slots) > 0
	})
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
			return r.choose(flow), r.Label
		}
		if ok && wild == nil {
			wild = r
		}
	}
	if wild != nil {
		return wild.choose(flow), wild.Label
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

// choose returns the VNIC of the segment for a flow that matches the rule.
func (r *SteerRule) choose(flow packet.Tuple) *iface.Iface {
	if r.Choice != nil {
		return r.Choice.balance(flow)
	}
	return r.Segment
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
