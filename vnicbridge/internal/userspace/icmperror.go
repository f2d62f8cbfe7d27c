package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// carryError moves an ICMP error to the other end of the flow that it is about,
// which the packet quoted in it tells (F6, RFC 5508 §4). It does not refresh the
// flow, and ends it only if the server says that its port is closed. A damaged one is dropped (RFC 5508 REQ-3): nothing else shows
// that what it quotes is what was sent.
func (fw *Forwarder) carryError(a *Arrival) packet.DropReason {
	if !packet.ValidChecksum(a.L4) {
		return packet.DropMalformed
	}
	// Any router on the way may send it: the quote decides (RFC 4787 REQ-12).
	if a.In.NIC != nil && !rules.PossibleRouter(a.Src, a.In.NIC.Address) {
		return packet.DropSource
	}
	quoted, ok := packet.ParseQuote(a.L4[packet.ICMPHeaderLen:])
	if !ok {
		return packet.DropMalformed
	}
	// The error goes the way of the packets that answer the quoted one.
	fl, dir := fw.Flows.Lookup(flow.Key{Tuple: quoted.Reversed(), Iface: a.In.Index})
	if fl == nil {
		return packet.DropNoFlow
	}
	to, tuple := fl.OtherEnd(dir)
	if a.tooBig(to.LinkMTU()) {
		return packet.DropTooBig
	}
	if a.saysClosed(fl) {
		fw.Flows.Remove(fl, a.Now)
	}
	a.RewriteQuote(quoted, tuple.Reversed())
	if a.In.NIC != nil && a.Src != quoted.Dst {
		tuple.Src = fw.rules.Load().RouterAt(to, a.In, a.Src, tuple.Src)
	}
	a.RewriteAddresses(tuple)
	return a.leaveBy(to, tuple.Dst)
}

// tooBig tells whether a packet does not fit a link: as it is, or in the pieces that
// segmentation offload cuts it into. A segment's root chooses their size.
func (a *Arrival) tooBig(mtu int) bool {
	if mtu == 0 || len(a.IP) <= mtu {
		return false
	}
	size := a.Frame.GsoSize()
	cut := size > 0 && !a.Fragment && a.Proto != config.ICMP
	return !cut || a.HeadersLen()+size > mtu
}

// refuseTooBig tells the sender of a packet which size would pass, so that path
// MTU discovery works (F8, RFC 1191).
func (fw *Forwarder) refuseTooBig(a *Arrival, mtu int) packet.DropReason {
	if f, ok := fw.fragmentationNeeded(a, mtu); ok {
		a.sendBack(f)
	}
	return packet.DropTooBig
}
