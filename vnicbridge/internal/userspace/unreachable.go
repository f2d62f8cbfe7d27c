package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// TellUnreachable tells a segment that a packet could not leave a NIC, because its next hop
// does not answer (A7; RFC 4861 §7.2.2). f is the packet's frame as it would have left. The
// caller holds moving: see [Forwarder.HoldFlows].
func (fw *Forwarder) TellUnreachable(nic *iface.Iface, f *packet.Frame) {
	a := Arrival{In: nic, Frame: f, Now: fw.Clock(), Out: new(iface.Outbox)}
	if a.parse(f.EtherType()) != packet.Keep || a.ICMPError || a.Later || !a.allows(fw.limits(nic).refusals) {
		return
	}
	// The error takes the way of one that the packet's destination has sent. It is dropped if
	// the flow is over.
	e := a.errorFrame(icmpError{kind: packet.ICMPv6Unreachable, code: packet.ICMPv6AddressUnreachable})
	answer := Arrival{In: nic, Frame: &e, Now: a.Now, Out: a.Out}
	fw.handle(&answer)
	a.Out.Flush()
}
