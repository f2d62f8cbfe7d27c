package vnicbridge

import (
	"encoding/binary"
	"math"
)

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

// part is which bytes of a datagram's payload a fragment has.
type part struct {
	from, to int  // to is not included
	last     bool // nothing comes behind it
}

// part returns the fragment's part. ok is false if no datagram can have it (RFC 791): it
// is empty, ends beyond the largest datagram, or not at a multiple of 8 bytes.
func (p *packet) part() (s part, ok bool) {
	bits := binary.BigEndian.Uint16(p.ip[6:])
	from := int(bits&ipFragmentOffset) * 8
	s = part{from, from + len(p.l4), bits&ipMoreFragments == 0}
	header := len(p.ip) - len(p.l4)
	return s, len(p.l4) > 0 && header+s.to <= math.MaxUint16 && (s.last || len(p.l4)%8 == 0)
}
