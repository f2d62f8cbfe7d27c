package vnicbridge

import "slices"

// carryError moves an ICMP error to the other end of the flow that it is about,
// which the packet quoted in it tells (F6, RFC 5508 §4). It neither refreshes
// nor ends the flow. A damaged one is dropped (RFC 5508 REQ-3): nothing else shows
// that what it quotes is what was sent.
func (fw *forwarder) carryError(a *arrival) dropReason {
	if !validChecksum(a.l4) {
		return dropMalformed
	}
	if a.in.nic != nil && !fw.rules.Load().possibleSource(a.src) {
		return dropSource
	}
	quoted, ok := parseQuote(a.l4[icmpHeaderLen:])
	if !ok {
		return dropMalformed
	}
	// The error goes the way of the packets that answer the quoted one.
	fl, dir := fw.flows.lookup(flowKey{quoted.reversed(), a.in.index})
	if fl == nil {
		return dropNoFlow
	}
	to, tuple := fl.otherEnd(dir)
	// The error may come from a router on the way. To the segment it comes from
	// the alias of the flow's other host: it has no other name for what is outside.
	a.rewriteQuote(quoted, tuple.reversed())
	a.rewriteAddresses(tuple)
	return to.emit(a, tuple.dst)
}

// parseQuote reads the packet that an ICMP error quotes: its header, and at least
// 8 bytes of its transport's (RFC 792), of which only the ports are needed. The
// quote may end anywhere behind them, whatever its length field says.
func parseQuote(quote []byte) (p packet, ok bool) {
	if p.parseHeader(quote) != keep || p.later || len(p.l4) < 8 {
		return p, false
	}
	switch p.proto {
	case TCP, UDP:
		p.setPorts()
		return p, true
	case ICMP:
		return p, p.parseEcho() == keep
	}
	return p, false
}

// rewriteQuote gives the quoted packet the tuple that it had at the other end,
// and mends the checksum of the error, which covers it.
func (a *arrival) rewriteQuote(quoted packet, to tuple) {
	changing := quoted.ip[:min(len(quoted.ip), len(quoted.ip)-len(quoted.l4)+tcpMinLen)&^1]
	before := slices.Clone(changing)
	diff := quoted.rewriteAddresses(to)
	portDiff := quoted.rewritePorts(to)
	switch {
	case quoted.proto == UDP:
		applyDiffUDP(quoted.l4[6:8], diff+portDiff)
	case quoted.proto == ICMP:
		applyDiff(quoted.l4[2:4], portDiff)
	case len(quoted.l4) >= tcpMinLen:
		applyDiff(quoted.l4[16:18], diff+portDiff)
	}
	applyDiff(a.l4[2:4], checksumDiff(before, changing))
}

// tooBig tells whether a packet does not fit a link. Segmentation offload cuts a
// super-packet into pieces that do.
func (a *arrival) tooBig(mtu int) bool {
	return mtu > 0 && len(a.ip) > mtu && !a.frame.isSuper()
}

// refuseTooBig tells the sender of a packet which size would pass, so that path
// MTU discovery works (F8, RFC 1191).
func (fw *forwarder) refuseTooBig(a *arrival, mtu int) dropReason {
	if f, ok := fw.refuse.fragmentationNeeded(a, mtu); ok {
		a.sendBack(f)
	}
	return dropTooBig
}
