package vnicbridge

import "iter"

// admit opens a flow for the first packet of one, or says why there is none.
func (fw *forwarder) admit(a *arrival) (*flow, dropReason) {
	if a.in.nic != nil {
		return fw.admitInbound(a)
	}
	return fw.admitOutbound(a)
}

// admitInbound opens a flow from the network to a segment: the policy chooses
// the segment, once (F1).
func (fw *forwarder) admitInbound(a *arrival) (*flow, dropReason) {
	rules := fw.rules.Load()
	bridge := rules.bridges[a.in]
	if bridge == nil {
		return nil, dropNoSegment // the NIC is about to go
	}
	if !rules.possibleSource(a.src) {
		return nil, dropSource
	}
	to, lasting := bridge.decisions.decide(a.tuple)
	if !a.begins() && !(lasting && a.continues()) {
		if fl := fw.resume(a); fl != nil {
			return fl, keep
		}
		// Silence would leave a client whose flow is gone hanging (F5).
		fw.answerRefusal(a)
		return nil, dropNoFlow
	}
	if to == nil {
		return nil, fw.refuseFlow(bridge, a, dropNoSegment)
	}
	segment := rules.segments[to]
	if !fw.enters(segment, to, &a.packet) {
		return nil, fw.refuseFlow(bridge, a, dropPort)
	}
	return fw.begin(a, to, segment.inboundReplies(bridge, a.tuple))
}

// begin opens a flow under the first of the tuples that is free. The flow whose tuple
// it uses again ends now: until here the new one could be refused.
func (fw *forwarder) begin(a *arrival, to *port, replies iter.Seq[tuple]) (*flow, dropReason) {
	if a.reopened != nil {
		fw.flows.remove(a.reopened, a.now)
	}
	return fw.flows.insert(newFlow(a.in, to, &a.packet, a.now), replies)
}

// enters tells whether a segment lets a new flow in by its port. Echo requests
// always enter.
func (fw *forwarder) enters(s *segmentRules, to *port, p *packet) bool {
	if p.proto == ICMP {
		return true
	}
	if s.ports != nil {
		return anyPortContains(s.ports, p.tuple)
	}
	return fw.open.contains(to.vnic.segment, p.tuple)
}

// admitOutbound opens a flow from a segment to the network, as its egress allows
// (F12).
func (fw *forwarder) admitOutbound(a *arrival) (*flow, dropReason) {
	rules := fw.rules.Load()
	segment := rules.segments[a.in]
	if segment == nil {
		return nil, dropEgress // the VNIC is about to go
	}
	if peer, ok := segment.reach[a.dst]; ok {
		return fw.admitToPeer(a, rules, peer)
	}
	if fl := fw.pickUp(a, rules, segment); fl != nil {
		return fl, keep
	}
	to, host := rules.egress(segment, a.dst)
	if to == nil {
		fw.orphaned(a)
		return nil, dropEgress
	}
	if !a.begins() {
		fw.orphaned(a)
		return nil, dropNoFlow
	}
	return fw.begin(a, to, outboundReplies(to, a.tuple, host))
}

// admitToPeer opens a flow from a segment to one that it may reach (S3). It is
// translated on both sides, and enters by the ports that the other opens.
func (fw *forwarder) admitToPeer(a *arrival, rules *ruleset, peer reachRule) (*flow, dropReason) {
	if !a.begins() {
		fw.answerRefusal(a)
		return nil, dropNoFlow
	}
	if !fw.enters(rules.segments[peer.to], peer.to, &a.packet) {
		fw.answerRefusal(a)
		return nil, dropPort
	}
	return fw.begin(a, peer.to, peer.replies(a.tuple))
}

// refuseFlow turns a new flow away as the bridge is configured to (F11).
func (fw *forwarder) refuseFlow(bridge *bridgeRules, a *arrival, verdict dropReason) dropReason {
	if bridge.refuse != Drop {
		fw.answerRefusal(a)
	}
	return verdict
}

// answerRefusal tells the sender of a packet that nothing will come of it.
func (fw *forwarder) answerRefusal(a *arrival) {
	if f, ok := fw.refusal(a); ok {
		a.sendBack(f)
	}
}

// refuseProtocol turns a packet away of whose protocol no flows are made. Its sender is
// told as an ordinary host would tell it (RFC 1122 §3.2.2.1).
func (fw *forwarder) refuseProtocol(a *arrival) dropReason {
	rules := fw.rules.Load()
	if a.in.nic != nil && !rules.possibleSource(a.src) {
		return dropSource
	}
	if !a.later && rules.answers(a.in, a.dst) {
		fw.answerRefusal(a)
	}
	return dropProtocol
}
