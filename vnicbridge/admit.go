package vnicbridge

import (
	"iter"
	"slices"
	"time"
)

// admitInbound opens a flow from the network to a segment: the policy chooses
// the segment, once (F1).
func (fw *forwarder) admitInbound(in *port, f *frame, p *packet, now int64, out *outbox) (*flow, dropReason) {
	rules := fw.rules.Load()
	bridge := rules.bridges[in]
	if bridge == nil {
		return nil, dropNoSegment // the NIC is about to go
	}
	if !rules.possibleSource(p.src) {
		return nil, dropSource
	}
	if !p.begins() {
		// Silence would leave a client whose flow is gone hanging (F5).
		fw.answer(in, p, now, out)
		return nil, dropNoFlow
	}
	to := bridge.decisions.decide(p.tuple)
	if to == nil {
		return nil, fw.refuseFlow(bridge, in, p, now, out, dropNoSegment)
	}
	segment := rules.segments[to]
	if !fw.enters(segment, to, p) {
		return nil, fw.refuseFlow(bridge, in, p, now, out, dropPort)
	}
	return fw.flows.insert(newFlow(in, to, p, now), inboundReplies(bridge, segment, in, to, p))
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

func inboundReplies(bridge *bridgeRules, s *segmentRules, in, to *port, p *packet) iter.Seq[tuple] {
	reserved := len(s.gateways)
	preferred := s.gatewayAlias(in)
	if p.src != bridge.gateway || preferred < 0 {
		preferred = s.aliases.preferred(p.src, reserved)
	}
	return s.aliases.replies(p.tuple, to.vnic.address, preferred, reserved)
}

// admitOutbound opens a flow from a segment to the network, as its egress allows
// (F12).
func (fw *forwarder) admitOutbound(in *port, _ *frame, p *packet, now int64, _ *outbox) (*flow, dropReason) {
	rules := fw.rules.Load()
	segment := rules.segments[in]
	if segment == nil || segment.egress != EgressGateway {
		return nil, dropEgress
	}
	i := slices.Index(segment.aliases.addrs[:len(segment.gateways)], p.dst)
	if i < 0 {
		return nil, dropEgress
	}
	if !p.begins() {
		return nil, dropNoFlow
	}
	to := segment.gateways[i]
	return fw.flows.insert(newFlow(in, to, p, now), outboundReplies(rules.bridges[to].gateway, to, p))
}

// outboundReplies yields the tuples under which the gateway could answer a
// segment: the segment's own port first, then others, because two segments may
// use the same one at once.
func outboundReplies(gateway addr, nic *port, p *packet) iter.Seq[tuple] {
	return func(yield func(tuple) bool) {
		t := tuple{src: gateway, dst: nic.nic.address, sport: p.dport, dport: p.sport, proto: p.proto}
		for range portAttempts {
			if !yield(t) {
				return
			}
			t.dport = randomPort(p.sport)
		}
	}
}

func newFlow(in, out *port, p *packet, now int64) *flow {
	class := initialClass(p.proto)
	fl := &flow{in: in, out: out, orig: p.tuple, ring: class}
	fl.class.Store(uint32(class))
	fl.lastSeen.Store(now)
	return fl
}

// refuseFlow turns a new flow away as the bridge is configured to (F11).
func (fw *forwarder) refuseFlow(bridge *bridgeRules, in *port, p *packet, now int64, out *outbox, verdict dropReason) dropReason {
	if bridge.refuse != Drop {
		fw.answer(in, p, now, out)
	}
	return verdict
}

// answer sends a refusal back by the port that a packet came in by.
func (fw *forwarder) answer(in *port, p *packet, now int64, out *outbox) {
	f, ok := fw.refuse.refusal(p, in.mac(), time.Duration(now))
	if !ok {
		return
	}
	if verdict := in.emit(&f, p.src, now, out); verdict != keep {
		in.drops[verdict].Add(1)
	}
}
