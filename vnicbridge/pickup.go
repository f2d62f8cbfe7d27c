package vnicbridge

import "slices"

// A table that is lost, as by a restart, leaves connections that nobody knows. What a
// client sends opens its flow again in admitInbound, if the segment can be only one
// (F5). Here is what a server sends (F5+): its client may have nothing to say.

// pickUp opens the flow again that a segment sends to, if the client is known by its
// address there, and new flows of the client's would get this segment. Or nil.
func (fw *forwarder) pickUp(a *arrival, rules *ruleset, segment *segmentRules) *flow {
	if !a.continues() {
		return nil
	}
	for nic, bridge := range rules.bridges {
		client := segment.clientAt(bridge, a.dst)
		if client == noAddr || !rules.possibleSource(client) {
			continue
		}
		question := packet{tuple: tuple{src: client, dst: nic.nic.address, sport: a.dport, dport: a.sport, proto: TCP}}
		to, lasting := bridge.decisions.lasting(question.tuple)
		if lasting && to == a.in && fw.enters(segment, to, &question) {
			return fw.insertAnswered(a, nic, question.tuple)
		}
	}
	return nil
}

// insertAnswered adds the flow of a client's tuple that a packet is an answer in. Or
// nil, if that tuple or that answer are of another flow.
func (fw *forwarder) insertAnswered(a *arrival, nic *port, client tuple) *flow {
	f := answeredFlow(nic, a.in, client, &a.packet, a.now)
	f, _ = fw.flows.insert(f, slices.Values([]tuple{a.tuple}))
	if f == nil || f.out != a.in || f.reply != a.tuple {
		return nil
	}
	return f
}

// resume opens the flow again whose handshake a packet completes. It finds no room
// only where no new flow does.
func (fw *forwarder) resume(a *arrival) *flow {
	if !a.continues() {
		return nil
	}
	h, ok := fw.handshakes.take(flowKey{a.tuple, a.in.index})
	if !ok || !h.goesOn(a.in, a.now) {
		return nil
	}
	f, _ := fw.flows.insert(h.resumed(&a.packet, a.now), slices.Values([]tuple{h.reply}))
	return f
}

// twoSegments is how many bytes a client receives before it must acknowledge some (RFC
// 1122 §4.2.3.2).
const twoSegments = 2 * 1460

// pickedUpBy returns a condition: another process, which has the successor's rules, will
// pick the flow up. It will not pick up a flow to a server of this process, because the
// server's socket ends.
func (fw *forwarder) pickedUpBy(successor *ruleset) func(*flow) bool {
	return func(f *flow) bool {
		bridge := successor.bridges[f.in]
		if bridge == nil {
			return false
		}
		to, lasting := bridge.decisions.lasting(f.orig)
		if !lasting || to != f.out || fw.open.wereOurs(to.vnic.segment, f.orig) {
			return false
		}
		segment := successor.segments[to]
		if !anyPortContains(segment.ports, f.orig) {
			return false
		}
		// The server alone can bring it back if its client is known, and must not if not:
		// in a transfer to the client that has nothing to say.
		known := segment.clientAt(bridge, f.reply.dst) != noAddr
		return known || f.sent[reverse].next.Load()-f.sent[forward].ack.Load() <= twoSegments
	}
}
