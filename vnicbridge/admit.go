package vnicbridge

import (
	"iter"
	"slices"
)

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
	return fw.begin(a, to, inboundReplies(bridge, segment, a, to))
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

// inboundReplies yields the tuples under which a segment could answer a flow.
func inboundReplies(bridge *bridgeRules, s *segmentRules, a *arrival, to *port) iter.Seq[tuple] {
	if s.preserve {
		server := tuple{src: to.vnic.address, dst: a.src, sport: a.dport, dport: a.sport, proto: a.proto}
		return otherPorts(server)
	}
	return s.aliases.replies(a.tuple, to.vnic.address, s.preferredAlias(bridge, a), len(s.gateways))
}

// preferredAlias is the index of the alias under which a segment best sees the sender of
// a packet from a NIC.
func (s *segmentRules) preferredAlias(bridge *bridgeRules, a *arrival) int {
	if gateway := s.gatewayAlias(a.in); a.src == bridge.gateway && gateway >= 0 {
		return gateway
	}
	return s.aliases.preferred(a.src, len(s.gateways))
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
	return fw.begin(a, to, outboundReplies(host, to, &a.packet))
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
	t := tuple{src: peer.to.vnic.address, dst: peer.alias, sport: a.dport, dport: a.sport, proto: a.proto}
	return fw.begin(a, peer.to, otherPorts(t))
}

// egress returns the NIC by which a segment may reach an address, and the host
// that the address stands for there.
func (r *ruleset) egress(s *segmentRules, dst addr) (nic *port, host addr) {
	if s.egress == EgressOff || len(s.gateways) == 0 {
		return nil, noAddr
	}
	if i := slices.Index(s.aliases.addrs[:len(s.gateways)], dst); i >= 0 {
		return s.gateways[i], r.bridges[s.gateways[i]].gateway
	}
	first := s.gateways[0]
	if s.egress == EgressAny && r.possibleSource(dst) || s.preserve && dst == r.bridges[first].gateway {
		return first, dst
	}
	return nil, noAddr
}

// outboundReplies yields the tuples under which a host could answer a segment. Two
// segments may use the same port at once.
func outboundReplies(host addr, nic *port, p *packet) iter.Seq[tuple] {
	return otherPorts(tuple{src: host, dst: nic.nic.address, sport: p.dport, dport: p.sport, proto: p.proto})
}

// otherPorts yields a reply tuple, and then the same with other ports of the
// opener.
func otherPorts(t tuple) iter.Seq[tuple] {
	return func(yield func(tuple) bool) {
		port := t.dport
		for range portAttempts {
			if !yield(t) {
				return
			}
			t.dport = randomPort(port)
		}
	}
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
	if !a.later && rules.answers(a) {
		fw.answerRefusal(a)
	}
	return dropProtocol
}

// answers tells whether there is anybody where a packet goes to who would refuse it.
func (r *ruleset) answers(a *arrival) bool {
	if bridge := r.bridges[a.in]; bridge != nil {
		return bridge.refuse != Drop
	}
	segment := r.segments[a.in]
	if segment == nil {
		return false
	}
	if _, ok := segment.reach[a.dst]; ok {
		return true
	}
	to, _ := r.egress(segment, a.dst)
	return to != nil
}
