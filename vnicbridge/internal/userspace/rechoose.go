package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Datagrams and echoes have no end of their own: a client that always uses one port
// (statsd, syslog, WireGuard) would keep its segment for ever. Where it must not, its flow
// is ended here, and its next packet opens one as the policy chooses then (F10+).

// rechoose ends the flows without a connection that clients have, where a condition holds.
func (fw *Forwarder) rechoose(condition func(*flow.Flow) bool) {
	fw.End(func(f *flow.Flow) bool { return f.Orig.Proto != config.TCP && f.In.NIC != nil && condition(f) }, nil)
}

// RechooseAt ends the flows without a connection whose server is at an iface.
func (fw *Forwarder) RechooseAt(server *iface.Iface) {
	fw.rechoose(func(f *flow.Flow) bool { return f.Out == server })
}

// RechooseSwitched ends the flows without a connection by the NIC of a bridge that was
// switched. A flow stays if a steer rule has chosen its segment, or if the bridge was
// switched to its segment.
func (fw *Forwarder) RechooseSwitched(nic *iface.Iface) {
	decisions := fw.CurrentRules().Bridges[nic].Decisions
	fw.rechoose(func(f *flow.Flow) bool {
		_, steered := decisions.Steered(f.Orig)
		return f.In == nic && !steered && (len(decisions.Slots) == 0 || f.Out != decisions.Slots[0])
	})
}

// saysClosed tells whether an ICMP error about a packet of a flow's opener is the
// server's own word that nobody serves the port. Only what comes by the server's VNIC is.
func (a *Arrival) saysClosed(fl *flow.Flow) bool {
	return fl.Orig.Proto == config.UDP && fl.In.NIC != nil && fl.Out == a.In &&
		a.L4[0] == packet.ICMPUnreachable && a.L4[1] == packet.ICMPPortUnreachable
}
