package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// carryError sends an ICMP error to the other end of the flow that it is about. The packet
// quoted in the error identifies the flow (F6, RFC 5508 §4). The error does not refresh the
// flow. It ends the flow only if the server says that its port is closed. An error with a
// wrong checksum is dropped (RFC 5508 REQ-3), because only the checksum protects the quote.
func (fw *Forwarder) carryError(a *Arrival) packet.DropReason {
	if !a.ValidICMP() {
		return packet.DropMalformed
	}
	// Any router on the way may send the error, so the flow does not depend on its source
	// (RFC 4787 REQ-12).
	if a.In.NIC != nil && !rules.PossibleRouter(a.Src, a.In.NIC.Address) {
		return packet.DropSource
	}
	quoted, ok := packet.ParseQuote(a.L4[packet.ICMPHeaderLen:])
	if !ok {
		return packet.DropMalformed
	}
	// The error goes the same way as packets that answer the quoted one.
	fl, dir := fw.Flows.Lookup(flow.Key{Tuple: quoted.Reversed(), Iface: a.In.Index})
	if fl == nil {
		return fw.carryStrangeError(a, quoted)
	}
	to, tuple := fl.OtherEnd(dir)
	if a.tooBig(to.LinkMTU()) {
		return packet.DropTooBig
	}
	if a.saysClosed(fl) {
		fw.Flows.Remove(fl, a.Now)
	}
	shift, _ := fl.Shift(dir)
	a.RewriteQuote(quoted, tuple.Reversed(), quotedSeq(shift, dir))
	return fw.sendError(a, quoted, to, tuple)
}

// sendError sends an ICMP error whose quote is rewritten. tuple is that of packets to the flow's other
// end.
func (fw *Forwarder) sendError(a *Arrival, quoted packet.Packet, to *iface.Iface, tuple packet.Tuple) packet.DropReason {
	if a.In.NIC != nil && a.Src != quoted.Dst {
		tuple.Src = fw.rules.Load().RouterAt(to, a.In, a.Src, tuple.Src)
	}
	a.RewriteAddresses(tuple)
	return fw.depart(a, to, tuple.Dst)
}

// quotedSeq returns what is added to the sequence number of a packet that an error quotes. An
// error that goes to the server quotes a packet of the server's, as the client knows it.
func quotedSeq(shift packet.Shift, dir flow.Direction) uint32 {
	if dir == flow.Forward {
		return -shift.Seq
	}
	return 0
}

// tooBig tells whether a packet does not fit a link with the given MTU in bytes; 0 is no
// limit. A super-packet fits if each packet does into which segmentation offload cuts it.
// The size of these must be checked, because root in a segment can choose it.
func (a *Arrival) tooBig(mtu int) bool {
	if mtu == 0 || len(a.IP) <= mtu {
		return false
	}
	size := a.Frame.GsoSize()
	cut := size > 0 && !a.Fragment && a.Proto != config.ICMP
	return !cut || a.HeadersLen()+size > mtu
}

// refuseTooBig drops a packet that is too big and tells its sender the MTU, so that path MTU
// discovery works (F8, RFC 1191, RFC 8201).
func (fw *Forwarder) refuseTooBig(a *Arrival, mtu int) packet.DropReason {
	if f, ok := fw.tooBigAnswer(a, mtu); ok {
		a.sendBack(f)
	}
	return packet.DropTooBig
}
