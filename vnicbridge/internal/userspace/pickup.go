package userspace

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// If the flow table is lost, as in a restart, connections remain without flows. A client's
// packet opens its flow again in admitInbound, if the rules allow only one segment (F5). A
// server's packet does so here (F5+), because the client may have nothing to send.
//
// Several machines may share a pseudo address and a server behind a device. Then any answer of
// the server may belong to a flow that another machine has, also the first one (H12).

// pickUp opens the flow again to which a server's packet belongs. It returns nil unless the
// packet's destination tells who the client is, and new flows of this client get the same
// segment.
func (fw *Forwarder) pickUp(a *Arrival, rules *rules.Ruleset, segment *rules.SegmentRules) *flow.Flow {
	shared := a.In.VNIC.Remote && a.Answers()
	if !shared && !a.Continues() {
		return nil
	}
	nic, client := fw.clientOf(a.In, a.Tuple, rules, segment, !a.Continues())
	if nic == nil {
		return nil
	}
	return fw.insertAnswered(a, nic, client)
}

// clientOf returns the original tuple that a flow has if packets with the tuple `answer`, which a
// segment's server sends, answer it, and the NIC at which the flow comes in. The NIC is nil unless
// the rules make it certain. If sharedOnly is set, only NICs count whose address other machines
// have, too.
func (fw *Forwarder) clientOf(vnic *iface.Iface, answer packet.Tuple, rules *rules.Ruleset, segment *rules.SegmentRules, sharedOnly bool) (*iface.Iface, packet.Tuple) {
	for nic, bridge := range rules.Bridges {
		client := segment.ClientAt(bridge, answer.Dst)
		if sharedOnly && !bridge.Shared || nic.StandsBy() || client == packet.NoAddr || !rules.PossibleSource(client) || fw.denied.Has(nic, client) || fw.denied.Has(vnic, client) {
			continue
		}
		question := packet.Packet{Tuple: packet.Tuple{Src: client, Dst: nic.NIC.Address, Sport: answer.Dport, Dport: answer.Sport, Proto: answer.Proto}}
		to, lasting := bridge.Decisions.Lasting(question.Tuple)
		if lasting && to == vnic && fw.enters(segment, to, &question) {
			return nic, question.Tuple
		}
	}
	return nil, packet.Tuple{}
}

// insertAnswered adds the flow with a client's original tuple, of which the packet is an
// answer. It returns nil if another flow has either of the tuples.
func (fw *Forwarder) insertAnswered(a *Arrival, nic *iface.Iface, client packet.Tuple) *flow.Flow {
	f := flow.AnsweredFlow(nic, a.In, client, &a.Packet, a.Now)
	f, _ = fw.Flows.Insert(f, slices.Values([]packet.Tuple{a.Tuple}))
	if f == nil || f.Out != a.In || f.Reply != a.Tuple {
		return nil
	}
	return f
}

// resume opens the evicted flow again whose handshake a packet completes, or returns nil.
func (fw *Forwarder) resume(a *Arrival) *flow.Flow {
	if !a.Continues() {
		return nil
	}
	h, ok := fw.Handshakes.Take(a.key())
	if !ok || !h.GoesOn(a.In, a.Now) {
		return nil
	}
	resumed := h.Resumed(&a.Packet, a.Now)
	if fw.denied.Has(resumed.Out, a.Src) {
		return nil
	}
	f, _ := fw.Flows.Insert(resumed, slices.Values([]packet.Tuple{h.Reply}))
	return f
}

// twoSegments is how many bytes a client receives, at most, before it must acknowledge them
// (RFC 1122 §4.2.3.2).
const twoSegments = 2 * 1460

// PickedUpBy returns a condition on flows: a successor, another process with the given
// rules, will pick the flow up. It is false for flows to servers of this process, because
// their sockets end with the process.
func (fw *Forwarder) PickedUpBy(successor *rules.Ruleset) func(*flow.Flow) bool {
	return func(f *flow.Flow) bool {
		bridge := successor.Bridges[f.In]
		if bridge == nil || f.Flags.Load()&flow.Greeted != 0 { // nobody else knows how its numbers differ
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
		// If the address tells who the client is, the server's next packet suffices.
		// Otherwise only the client's can bring the flow back. A client in the middle of a
		// transfer would wait and send none: more than two segments are unacknowledged then.
		known := segment.ClientAt(bridge, f.Reply.Dst) != packet.NoAddr
		return known || f.Sent[flow.Reverse].Next.Load()-f.Sent[flow.Forward].Ack.Load() <= twoSegments
	}
}
