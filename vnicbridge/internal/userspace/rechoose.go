package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// UDP and echo flows have no end of their own, so a client that always uses the same port
// (statsd, syslog, WireGuard) would keep its segment for ever. The functions in this file
// end such flows when the segment must be chosen again: the client's next packet opens a new
// flow, and the policy chooses its segment (F10+).

// rechoose ends the UDP and echo flows of clients for which a condition holds.
func (fw *Forwarder) rechoose(condition func(*flow.Flow) bool) {
	fw.End(func(f *flow.Flow) bool { return f.Orig.Proto != config.TCP && f.In.NIC != nil && condition(f) }, nil)
}

// RechooseAt ends the UDP and echo flows of clients to the server at a VNIC, of both families.
func (fw *Forwarder) RechooseAt(server *iface.Iface) {
	fw.rechoose(func(f *flow.Flow) bool { return f.Out == server || f.Out == server.V6 })
}

// RechooseSwitched ends the UDP and echo flows of clients at a NIC whose bridge was switched
// to another segment, of both families. A flow stays if a steer rule decides about it, or if
// it goes to that segment already.
func (fw *Forwarder) RechooseSwitched(nic *iface.Iface) {
	bridges := fw.CurrentRules().Bridges
	fw.rechoose(func(f *flow.Flow) bool {
		bridge := bridges[f.In]
		if bridge == nil || f.In != nic && f.In != nic.V6 {
			return false
		}
		_, steered := bridge.Decisions.Steered(f.Orig)
		slots := bridge.Decisions.Slots
		return !steered && (len(slots) == 0 || f.Out != slots[0])
	})
}

// saysClosed tells whether an ICMP error about a client's UDP packet says that the server's
// port is closed. Only an error from the server's own VNIC counts.
func (a *Arrival) saysClosed(fl *flow.Flow) bool {
	return fl.Orig.Proto == config.UDP && fl.In.NIC != nil && fl.Out == a.In && a.IsPortUnreachable()
}
