package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// StrangeErrorRate is how many ICMP errors about unknown flows are carried a second, of those that come
// in at one iface. Anybody can make them up, and each one reaches a server.
const StrangeErrorRate = 100

// carryStrangeError sends an ICMP error about an unknown TCP or UDP flow to where packets of the flow
// would go, and opens no flow (H8). With several machines, another one may have the flow, because
// routers choose the machine for an error by other addresses than for the flow (RFC 7690), or because
// the address has moved.
func (fw *Forwarder) carryStrangeError(a *Arrival, quoted packet.Packet) packet.DropReason {
	if a.In.StandsBy() {
		return packet.DropStandby
	}
	to, tuple := fw.strangersWay(a.In, quoted.Reversed())
	switch {
	case to == nil:
		return packet.DropNoFlow
	case a.tooBig(to.LinkMTU()):
		return packet.DropTooBig
	case !a.allows(fw.limits(a.In).strangeErrors):
		return packet.DropOverload
	}
	a.RewriteQuote(quoted, tuple.Reversed(), 0)
	return fw.sendError(a, quoted, to, tuple)
}

// strangersWay returns the iface by which a packet of an unknown flow would leave, and its tuple there.
// The iface is nil unless the rules make both certain.
func (fw *Forwarder) strangersWay(in *iface.Iface, t packet.Tuple) (*iface.Iface, packet.Tuple) {
	if t.Proto != config.TCP && t.Proto != config.UDP {
		return nil, packet.Tuple{}
	}
	way := fw.serverOf
	if in.VNIC != nil {
		way = fw.clientBehind
	}
	to, answer := way(in, t)
	if to == nil {
		return nil, packet.Tuple{}
	}
	if other, _ := fw.Flows.Lookup(flow.Key{Tuple: answer, Iface: to.Index}); other != nil {
		return nil, packet.Tuple{} // another client's flow has the tuple
	}
	return to, answer.Reversed()
}

// serverOf returns the iface of the segment that gets a flow from the network, and the tuple of its
// answers.
func (fw *Forwarder) serverOf(nic *iface.Iface, client packet.Tuple) (*iface.Iface, packet.Tuple) {
	rules := fw.rules.Load()
	bridge := rules.Bridges[nic]
	if bridge == nil || client.Dst != nic.NIC.Address || !rules.PossibleSource(client.Src) || fw.denied.Has(nic, client.Src) {
		return nil, packet.Tuple{}
	}
	to, lasting := bridge.Decisions.Lasting(client)
	if !lasting || to == nil || fw.denied.Has(to, client.Src) || !fw.enters(rules.Segments[to], to, &packet.Packet{Tuple: client}) {
		return nil, packet.Tuple{}
	}
	for answer := range rules.Segments[to].InboundReplies(bridge, client) {
		return to, answer
	}
	return nil, packet.Tuple{}
}

// clientBehind returns the NIC behind which the client of a segment's server is, and the tuple of the
// client's packets. t is the tuple of the server's packets.
func (fw *Forwarder) clientBehind(vnic *iface.Iface, t packet.Tuple) (*iface.Iface, packet.Tuple) {
	rules := fw.rules.Load()
	if segment := rules.Segments[vnic]; segment != nil && t.Src == vnic.VNIC.Address {
		return fw.clientOf(vnic, t, rules, segment, false)
	}
	return nil, packet.Tuple{}
}
