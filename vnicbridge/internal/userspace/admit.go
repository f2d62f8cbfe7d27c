package userspace

import (
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// admit opens a flow for a packet that belongs to none, or returns why the packet is dropped.
func (fw *Forwarder) admit(a *Arrival) (*flow.Flow, packet.DropReason) {
	if a.In.NIC != nil {
		return fw.admitInbound(a)
	}
	return fw.admitOutbound(a)
}

// admitInbound opens a flow from the network to a segment. Only here are segments chosen, so
// a flow keeps its segment (F1).
func (fw *Forwarder) admitInbound(a *Arrival) (*flow.Flow, packet.DropReason) {
	rules := fw.rules.Load()
	bridge := rules.Bridges[a.In]
	if bridge == nil {
		return nil, packet.DropNoSegment // the NIC is about to go
	}
	if a.In.StandsBy() {
		return nil, packet.DropStandby
	}
	if !rules.PossibleSource(a.Src) {
		return nil, packet.DropSource
	}
	if bridge.Decisions.NeedsName(a.Tuple) {
		return fw.admitByName(a, rules, bridge)
	}
	to, lasting := bridge.Decisions.Decide(a.Tuple)
	if !a.Begins() && !(lasting && a.Continues()) {
		return fw.admitUnknown(a)
	}
	return fw.admitTo(a, rules, bridge, to)
}

// admitByName opens a flow whose segment depends on the host name that the client asks for, or
// takes the packet until the name is known.
func (fw *Forwarder) admitByName(a *Arrival, rules *rules.Ruleset, bridge *rules.BridgeRules) (*flow.Flow, packet.DropReason) {
	if a.Proto == config.TCP {
		if verdict, taken := fw.greet(a, bridge); taken {
			return nil, verdict
		}
		return fw.admitUnknown(a)
	}
	to, held := fw.chooseByDatagram(a, rules, bridge)
	if held {
		return nil, packet.Keep
	}
	a.named = true
	fl, verdict := fw.admitTo(a, rules, bridge, to)
	fw.releaseDatagrams(a, fl, verdict)
	return fl, verdict
}

// admitUnknown takes a packet from within a connection that has no flow.
func (fw *Forwarder) admitUnknown(a *Arrival) (*flow.Flow, packet.DropReason) {
	if fl := fw.resume(a); fl != nil {
		return fl, packet.Keep
	}
	// Without an answer, a client whose flow is gone would hang (F5).
	fw.answerRefusal(a)
	return nil, packet.DropNoFlow
}

// admitTo opens a flow from the network to a segment: nil if no segment gets it.
func (fw *Forwarder) admitTo(a *Arrival, rules *rules.Ruleset, bridge *rules.BridgeRules, to *iface.Iface) (*flow.Flow, packet.DropReason) {
	if to == nil {
		return nil, fw.refuseFlow(bridge, a, packet.DropNoSegment)
	}
	if fw.denied.Has(to, a.Src) {
		return nil, packet.DropDenied
	}
	segment := rules.Segments[to]
	if !fw.enters(segment, to, &a.Packet) {
		return nil, fw.refuseFlow(bridge, a, packet.DropPort)
	}
	return fw.begin(a, to, segment.InboundReplies(bridge, a.Tuple))
}

// begin opens a flow with the first of the reply tuples that is free. It ends the closed
// flow whose original tuple the packet reuses: not earlier, because the new flow could still
// be refused.
func (fw *Forwarder) begin(a *Arrival, to *iface.Iface, replies iter.Seq[packet.Tuple]) (*flow.Flow, packet.DropReason) {
	if a.reopened != nil {
		fw.Flows.Remove(a.reopened, a.Now)
	}
	fl := flow.New(a.In, to, &a.Packet, a.Now)
	if a.named {
		fl.Greet(a.rule)
	}
	return fw.Flows.Insert(fl, replies)
}

// enters tells whether the port of a new flow is open on a segment. Echo requests always
// enter.
func (fw *Forwarder) enters(s *rules.SegmentRules, to *iface.Iface, p *packet.Packet) bool {
	if p.Proto == config.ICMP {
		return true
	}
	if s.Ports != nil {
		return rules.AnyPortContains(s.Ports, p.Tuple)
	}
	return fw.open.Contains(to.VNIC.Segment, p.Tuple)
}

// admitOutbound opens a flow from a segment to the network, if its egress rule allows it, or
// to another segment, if its reach does (F12).
func (fw *Forwarder) admitOutbound(a *Arrival) (*flow.Flow, packet.DropReason) {
	rs := fw.rules.Load()
	segment := rs.Segments[a.In]
	if segment == nil {
		return nil, packet.DropEgress // the VNIC is about to go
	}
	if a.In.StandsBy() {
		return nil, packet.DropStandby // another machine may know the flow
	}
	if peer, ok := segment.Reach[a.Dst]; ok {
		return fw.admitToPeer(a, rs, peer)
	}
	to, host := rs.Egress(segment, a.Dst)
	if to == nil || !a.Begins() {
		if fl := fw.pickUp(a, rs, segment); fl != nil {
			return fl, packet.Keep
		}
	}
	if to == nil {
		fw.orphaned(a)
		return nil, packet.DropEgress
	}
	if fw.denied.Has(to, host) || fw.denied.Has(a.In, host) {
		return nil, packet.DropDenied
	}
	if !a.Begins() {
		fw.orphaned(a)
		return nil, packet.DropNoFlow
	}
	if to.StandsBy() {
		return nil, packet.DropStandby
	}
	return fw.begin(a, to, rules.OutboundReplies(to, a.Tuple, host))
}

// admitToPeer opens a flow from a segment to another one that it may reach (S3). Each
// segment sees the other under an alias. The port must be open on the other segment.
func (fw *Forwarder) admitToPeer(a *Arrival, rules *rules.Ruleset, peer rules.ReachRule) (*flow.Flow, packet.DropReason) {
	if peer.To.StandsBy() {
		return nil, packet.DropStandby
	}
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

// refuseFlow refuses a new flow, and tells the sender if the bridge is configured to (F11).
func (fw *Forwarder) refuseFlow(bridge *rules.BridgeRules, a *Arrival, verdict packet.DropReason) packet.DropReason {
	if bridge.Refuse != config.Drop {
		fw.answerRefusal(a)
	}
	return verdict
}

// answerRefusal tells the sender of a packet that the packet is refused, if refusal allows.
func (fw *Forwarder) answerRefusal(a *Arrival) {
	if f, ok := fw.refusal(a); ok {
		a.sendBack(f)
	}
}

// refuseProtocol drops a packet of a protocol that is not carried. In IPv4 it tells the
// sender so, as an ordinary host does (RFC 1122 §3.2.2.1). In IPv6 it answers only routing
// headers (F13).
func (fw *Forwarder) refuseProtocol(a *Arrival) packet.DropReason {
	rules := fw.rules.Load()
	if a.In.StandsBy() {
		return packet.DropStandby
	}
	if a.In.NIC != nil && !rules.PossibleSource(a.Src) {
		return packet.DropSource
	}
	if !a.Later && rules.Answers(a.In, a.Dst) {
		fw.answerRefusal(a)
	}
	return packet.DropProtocol
}
