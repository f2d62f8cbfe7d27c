package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// fragmentKey identifies a fragmented datagram (RFC 791, RFC 8200 §4.5), at the iface at
// which it comes in or leaves.
type fragmentKey struct {
	src, dst packet.Addr
	proto    config.Protocol // 0 in IPv6, where the fragments of a datagram may name several
	id       uint32
	iface    uint32
}

// fragmentKey returns the key of the datagram of which the packet is a fragment.
func (a *Arrival) fragmentKey() fragmentKey {
	key := fragmentKey{a.Src, a.Dst, a.Proto, a.ID(), a.In.Index}
	if a.In.Family == config.IPv6 {
		key.proto = 0
	}
	return key
}

// carryFragment sends a fragment the way that the first fragment of its datagram goes. Only
// the first one has ports.
func (fw *Forwarder) carryFragment(a *Arrival) packet.DropReason {
	if a.In.NIC != nil && !fw.rules.Load().PossibleSource(a.Src) {
		return packet.DropSource // checked here, before the fragment takes memory
	}
	part, ok := a.Part()
	if !ok {
		return packet.DropMalformed
	}
	key := a.fragmentKey()
	if a.Later {
		d, verdict := fw.Fragments.follow(key, part, a)
		if d == nil {
			return verdict
		}
		return fw.leaveAs(a, d)
	}
	fl, dir, verdict := fw.flowOf(a)
	if fl == nil {
		fw.Fragments.refuse(key, a)
		return verdict
	}
	d, waiting := fw.Fragments.lead(key, part, fl, dir, a)
	if d == nil {
		return packet.DropFragment
	}
	first := fw.leaveAs(a, d)
	for i := range waiting {
		rest := Arrival{In: a.In, Frame: &waiting[i], Now: a.Now, Out: a.Out}
		if verdict = rest.parse(rest.Frame.EtherType()); verdict == packet.Keep {
			verdict = fw.leaveAs(&rest, d)
		}
		if verdict != packet.Keep {
			a.In.Drops[verdict].Add(1)
		}
	}
	return first
}

// leaveAs rewrites a fragment and sends it the way of its datagram.
func (fw *Forwarder) leaveAs(a *Arrival, d *datagram) packet.DropReason {
	to, tuple := d.flow.OtherEnd(d.dir)
	if mtu := to.LinkMTU(); a.tooBig(mtu) {
		return fw.refuseTooBig(a, mtu)
	}
	a.RewriteID(d.out.id)
	if !a.Later {
		a.shiftToClient(d.flow, d.dir)
	}
	a.Rewrite(tuple, a.Frame.ChecksumUnfinished())
	return fw.depart(a, to, tuple.Dst)
}
