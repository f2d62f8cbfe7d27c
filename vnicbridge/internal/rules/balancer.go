package rules

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Balancer is the compiled form of a policy. The zero value has no segments to choose from.
type Balancer struct {
	Index   slotIndex
	Slots   []*iface.Iface // the VNICs that the policy chooses from; a VNIC may be in several slots
	Weights []int64        // of the slots, for SlotLeastFlows
	turn    func() uint32  // how many flows SlotInTurn has assigned before
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

// compileBalancer compiles a policy. available are the segments that may get new flows now.
func compileBalancer(p *config.Policy, available map[string]Candidate, turn func() uint32, key Key) (b Balancer) {
	if p == nil {
		return b
	}
	b = Balancer{Index: slotIndexes[p.Policy], turn: turn, key: key}
	var pool []Candidate
	for _, name := range p.Segments {
		if c, ok := available[name]; ok {
			pool = append(pool, c)
		}
	}
	switch p.Policy {
	case config.PolicyWeightedRoundRobin, config.PolicyRandom:
		for _, i := range interleave(pool) {
			b.Slots = append(b.Slots, pool[i].Iface)
		}
	case config.PolicyIPHash, config.PolicyFlowHash:
		b.Slots = maglev(pool)
	default:
		for _, c := range pool {
			b.Slots = append(b.Slots, c.Iface)
			b.Weights = append(b.Weights, int64(c.Weight))
		}
	}
	return b
}

// ownTurn returns the turn of a steer rule. It begins anew when the rules are compiled again, at any
// segment, so that the first one is not preferred.
func ownTurn() func() uint32 {
	var turn atomic.Uint32
	turn.Store(rand.Uint32())
	return func() uint32 { return turn.Add(1) }
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

// balance returns the VNIC of the segment for a flow, or nil if none is available.
func (b *Balancer) balance(flow packet.Tuple) *iface.Iface {
	n := uint64(len(b.Slots))
	if n == 0 {
		return nil
	}
	switch b.Index {
	case SlotInTurn:
		return b.Slots[uint64(b.turn())%n]
	case SlotRandom:
		return b.Slots[rand.Uint64N(n)]
	case SlotClientHash:
		site := packet.SiteOf(flow.Src)
		return b.Slots[b.key.hash(site[:])%n]
	case SlotFlowHash:
		return b.Slots[b.key.hashTuple(flow)%n]
	case SlotLeastFlows:
		return b.leastLoaded()
	default:
		return b.Slots[0]
	}
}

// leastLoaded returns the segment with the fewest open flows, of both families, for its weight.
func (b *Balancer) leastLoaded() *iface.Iface {
	best := 0
	for i, p := range b.Slots {
		if p.Load()*b.Weights[best] < b.Slots[best].Load()*b.Weights[i] {
			best = i
		}
	}
	return b.Slots[best]
}
