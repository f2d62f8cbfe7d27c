package vnicbridge

// fragmentKey identifies a datagram in fragments, as it comes in (RFC 791).
type fragmentKey struct {
	src, dst addr
	proto    Protocol
	id       uint16
	port     uint32
}

// carryFragment sends a fragment the way that the first of its datagram goes.
func (fw *forwarder) carryFragment(a *arrival) dropReason {
	if a.in.nic != nil && !fw.rules.Load().possibleSource(a.src) {
		return dropSource // before it takes memory
	}
	part, ok := a.part()
	if !ok {
		return dropMalformed
	}
	key := fragmentKey{a.src, a.dst, a.proto, a.id(), a.in.index}
	if a.later {
		d, verdict := fw.fragments.follow(key, part, a)
		if d == nil {
			return verdict
		}
		return fw.leaveAs(a, d)
	}
	fl, dir, verdict := fw.flowOf(a)
	if fl == nil {
		fw.fragments.refuse(key, a)
		return verdict
	}
	d, waiting := fw.fragments.lead(key, part, fl, dir, a)
	if d == nil {
		return dropFragment
	}
	first := fw.leaveAs(a, d)
	for i := range waiting {
		rest := arrival{in: a.in, frame: &waiting[i], now: a.now, out: a.out}
		if rest.packet, verdict = parseIPv4(rest.frame); verdict == keep {
			verdict = fw.leaveAs(&rest, d)
		}
		if verdict != keep {
			a.in.drops[verdict].Add(1)
		}
	}
	return first
}

// leaveAs sends a fragment on with its datagram.
func (fw *forwarder) leaveAs(a *arrival, d *datagram) dropReason {
	to, tuple := d.flow.otherEnd(d.dir)
	if mtu := to.linkMTU(); a.tooBig(mtu) {
		return fw.refuseTooBig(a, mtu)
	}
	a.rewriteID(d.out.id)
	a.rewrite(tuple, a.frame.checksumUnfinished())
	return a.leaveBy(to, tuple.dst)
}
