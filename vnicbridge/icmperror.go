package vnicbridge

// carryError moves an ICMP error to the other end of the flow that it is about,
// which the packet quoted in it tells (F6, RFC 5508 §4). It does not refresh the
// flow, and ends it only if the server says that its port is closed. A damaged one is dropped (RFC 5508 REQ-3): nothing else shows
// that what it quotes is what was sent.
func (fw *forwarder) carryError(a *arrival) dropReason {
	if !validChecksum(a.l4) {
		return dropMalformed
	}
	// Any router on the way may send it: the quote decides (RFC 4787 REQ-12).
	if a.in.nic != nil && !possibleRouter(a.src, a.in.nic.address) {
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
	if a.tooBig(to.linkMTU()) {
		return dropTooBig
	}
	if a.saysClosed(fl) {
		fw.flows.remove(fl, a.now)
	}
	a.rewriteQuote(quoted, tuple.reversed())
	if a.in.nic != nil && a.src != quoted.dst {
		tuple.src = fw.rules.Load().routerAt(to, a.in, a.src, tuple.src)
	}
	a.rewriteAddresses(tuple)
	return a.leaveBy(to, tuple.dst)
}

// tooBig tells whether a packet does not fit a link: as it is, or in the pieces that
// segmentation offload cuts it into. A segment's root chooses their size.
func (a *arrival) tooBig(mtu int) bool {
	if mtu == 0 || len(a.ip) <= mtu {
		return false
	}
	size := a.frame.gsoSize()
	cut := size > 0 && !a.fragment && a.proto != ICMP
	return !cut || a.headersLen()+size > mtu
}

// refuseTooBig tells the sender of a packet which size would pass, so that path
// MTU discovery works (F8, RFC 1191).
func (fw *forwarder) refuseTooBig(a *arrival, mtu int) dropReason {
	if f, ok := fw.fragmentationNeeded(a, mtu); ok {
		a.sendBack(f)
	}
	return dropTooBig
}
