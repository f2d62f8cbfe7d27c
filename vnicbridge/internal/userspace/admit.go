package userspace

import (
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// admit opens a flow for the first packet of one, or says why there is none.
func (fw *Forwarder) admit(a *Arrival) (*flow.Flow, packet.DropReason) {
	if a.In.NIC != nil {
		return fw.admitInbound(a)
	}
	return fw.admitOutbound(a)
}

// admitInbound opens a flow from the network to a segment: the policy chooses
// the segment, once (F1).
func (fw *Forwarder) admitInbound(a *Arrival) (*flow.Flow, packet.DropReason) {
	rules := fw.rules.Load()
	bridge := rules.Bridges[a.In]
	if bridge == nil {
		return nil, packet.DropNoSegment // the NIC is about to go
	}
	if !rules.PossibleSource(a.Src) {
		return nil, packet.DropSource
	}
	to, lasting := bridge.Decisions.Decide(a.Tuple)
	if !a.Begins() && !(lasting && a.Continues()) {
		if fl := fw.resume(a); fl != nil {
			return fl, packet.Keep
		}
		// Silence would leave a client whose flow is gone hanging (F5).
		fw.answerRefusal(a)
		return nil, packet.DropNoFlow
	}
	if to == nil {
		return nil, fw.refuseFlow(bridge, a, packet.DropNoSegment)
	}
	segment := rules.Segments[to]
	if !fw.enters(segment, to, &a.Packet) {
		return nil, fw.refuseFlow(bridge, a, packet.DropPort)
	}
	return fw.begin(a, to, segment.InboundReplies(bridge, a.Tuple))
}

// begin opens a flow under the first of the tuples that is free. The flow whose tuple
// it uses again ends now: until here the new one could be refused.
func (fw *Forwarder) begin(a *Arrival, to *iface.Iface, replies iter.Seq[packet.Tuple]) (*flow.Flow, packet.DropReason) {
	if a.reopened != nil {
		fw.Flows.Remove(a.reopened, a.Now)
	}
	return fw.Flows.Insert(flow.New(a.In, to, &a.Packet, a.Now), replies)
}

// enters tells whether a segment lets a new flow in by its port. Echo requests
// always enter.
func (fw *Forwarder) enters(s *rules.SegmentRules, to *iface.Iface, p *packet.Packet) bool {
	if p.Proto == config.ICMP {
		return true
	}
	if s.Ports != nil {
		return rules.AnyPortContains(s.Ports, p.Tuple)
	}
	return fw.open.Contains(to.VNIC.Segment, p.Tuple)
}

// admitOutbound opens a flow from a segment to the network, as its egress allows
// (F12).
func (fw *Forwarder) admitOutbound(a *Arrival) (*flow.Flow, packet.DropReason) {
	rs := fw.rules.Load()
	segment := rs.Segments[a.In]
	if segment == nil {
		return nil, packet.DropEgress // the VNIC is about to go
	}
	if peer, ok := segment.Reach[a.Dst]; ok {
		return fw.admitToPeer(a, rs, peer)
	}
	if fl := fw.pickUp(a, rs, segment); fl != nil {
		return fl, packet.Keep
	}
	to, host := rs.Egress(segment, a.Dst)
	if to == nil {
		fw.orphaned(a)
		return nil, packet.DropEgress
	}
	if !a.Begins() {
		fw.orphaned(a)
		return nil, packet.DropNoFlow
	}
	return fw.begin(a, to, rules.OutboundReplies(to, a.Tuple, host))
}

// admitToPeer opens a flow from a segment to one that it may reach (S3). It is
// translated on both sides, and enters by the ports that the other opens.
func (fw *Forwarder) admitToPeer(a *Arrival, rules *rules.Ruleset, peer rules.ReachRule) (*flow.Flow, packet.DropReason) {
	if !a.Begins() {
		fw.answerRefusal(a)
		return nil, packet.DropNoFlow
	}
	if !fw.enters(rules.Segments[peer.To], peer.To, &a.Packet) {
		fw.answerRefusal(a)
		return nil, packet.DropPort
	}
	return fw.begin(a, peer.To, peer.Replies(a.Tuple))
}

// refuseFlow turns a new flow away as the bridge is configured to (F11).
func (fw *Forwarder) refuseFlow(bridge *rules.BridgeRules, a *Arrival, verdict packet.DropReason) packet.DropReason {
	if bridge.Refuse != config.Drop {
		fw.answerRefusal(a)
	}
	return verdict
}

// answerRefusal tells the sender of a packet that nothing will come of it.
func (fw *Forwarder) answerRefusal(a *Arrival) {
	if f, ok := fw.refusal(a); ok {
		a.sendBack(f)
	}
}

// refuseProtocol turns a packet away of whose protocol no flows are made. Its sender is
// told as an ordinary host would tell it (RFC 1122 §3.2.2.1).
func (fw *Forwarder) refuseProtocol(a *Arrival) packet.DropReason {
	rules := fw.rules.Load()
	if a.In.NIC != nil && !rules.PossibleSource(a.Src) {
		return packet.DropSource
	}
	if !a.Later && rules.Answers(a.In, a.Dst) {
		fw.answerRefusal(a)
	}
	return packet.DropProtocol
}
