package userspace

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// A table that is lost, as by a restart, leaves connections that nobody knows. What a
// client sends opens its flow again in admitInbound, if the segment can be only one
// (F5). Here is what a server sends (F5+): its client may have nothing to say.

// pickUp opens the flow again that a segment sends to, if the client is known by its
// address there, and new flows of the client's would get this segment. Or nil.
func (fw *Forwarder) pickUp(a *Arrival, rules *rules.Ruleset, segment *rules.SegmentRules) *flow.Flow {
	if !a.Continues() {
		return nil
	}
	for nic, bridge := range rules.Bridges {
		client := segment.ClientAt(bridge, a.Dst)
		if client == packet.NoAddr || !rules.PossibleSource(client) {
			continue
		}
		question := packet.Packet{Tuple: packet.Tuple{Src: client, Dst: nic.NIC.Address, Sport: a.Dport, Dport: a.Sport, Proto: config.TCP}}
		to, lasting := bridge.Decisions.Lasting(question.Tuple)
		if lasting && to == a.In && fw.enters(segment, to, &question) {
			return fw.insertAnswered(a, nic, question.Tuple)
		}
	}
	return nil
}

// insertAnswered adds the flow of a client's tuple that a packet is an answer in. Or
// nil, if that tuple or that answer are of another flow.
func (fw *Forwarder) insertAnswered(a *Arrival, nic *iface.Iface, client packet.Tuple) *flow.Flow {
	f := flow.AnsweredFlow(nic, a.In, client, &a.Packet, a.Now)
	f, _ = fw.Flows.Insert(f, slices.Values([]packet.Tuple{a.Tuple}))
	if f == nil || f.Out != a.In || f.Reply != a.Tuple {
		return nil
	}
	return f
}

// resume opens the flow again whose handshake a packet completes. It finds no room
// only where no new flow does.
func (fw *Forwarder) resume(a *Arrival) *flow.Flow {
	if !a.Continues() {
		return nil
	}
	h, ok := fw.Handshakes.Take(flow.Key{Tuple: a.Tuple, Iface: a.In.Index})
	if !ok || !h.GoesOn(a.In, a.Now) {
		return nil
	}
	f, _ := fw.Flows.Insert(h.Resumed(&a.Packet, a.Now), slices.Values([]packet.Tuple{h.Reply}))
	return f
}

// twoSegments is how many bytes a client receives before it must acknowledge some (RFC
// 1122 §4.2.3.2).
const twoSegments = 2 * 1460

// PickedUpBy returns a condition: another process, which has the successor's rules, will
// pick the flow up. It will not pick up a flow to a server of this process, because the
// server's socket ends.
func (fw *Forwarder) PickedUpBy(successor *rules.Ruleset) func(*flow.Flow) bool {
	return func(f *flow.Flow) bool {
		bridge := successor.Bridges[f.In]
		if bridge == nil {
			return false
		}
		to, lasting := bridge.Decisions.Lasting(f.Orig)
		if !lasting || to != f.Out || fw.open.WereOurs(to.VNIC.Segment, f.Orig) {
			return false
		}
		segment := successor.Segments[to]
		if !rules.AnyPortContains(segment.Ports, f.Orig) {
			return false
		}
		// The server alone can bring it back if its client is known, and must not if not:
		// in a transfer to the client that has nothing to say.
		known := segment.ClientAt(bridge, f.Reply.Dst) != packet.NoAddr
		return known || f.Sent[flow.Reverse].Next.Load()-f.Sent[flow.Forward].Ack.Load() <= twoSegments
	}
}
