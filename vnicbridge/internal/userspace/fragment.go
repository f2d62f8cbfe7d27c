package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// fragmentKey identifies a fragmented datagram (RFC 791), at the iface at which it comes in
// or leaves.
type fragmentKey struct {
	src, dst packet.Addr
	proto    config.Protocol
	id       uint16
	iface    uint32
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
	key := fragmentKey{a.Src, a.Dst, a.Proto, a.ID(), a.In.Index}
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
		if rest.Packet, verdict = packet.ParseIPv4(rest.Frame); verdict == packet.Keep {
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
	a.Rewrite(tuple, a.Frame.ChecksumUnfinished())
	return a.leaveBy(to, tuple.Dst)
}
