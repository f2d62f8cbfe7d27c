package link

import (
	"log/slog"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Ethernet is the [iface.Link] of a NIC, on which ARP resolves addresses. It answers for the
// pseudo address (A1, A2) and resolves next hops (A7).
type Ethernet struct {
	Claim *addressClaim
	*Neighbours
}

// New returns the link of a NIC. ours tells whether a MAC is that of one of our NICs. The
// caller sets Learned, Publish and SentByKernel before use.
func New(nic *iface.Iface, ours func(config.MAC) bool, log *slog.Logger) *Ethernet {
	claim := newAddressClaim(nic.NIC.Address, nic.MAC, ours, nic.Transmit, log)
	n := NewNeighbours(nic.NIC.Network)
	n.send = nic.Transmit
	n.GaveUp = func(frames int) { nic.Drops[packet.DropUnresolved].Add(uint64(frames)) }
	n.Ask = func(target packet.Addr, to config.MAC) {
		nic.Transmit([]packet.Frame{claim.request(nic.NIC.Address, target, to)})
	}
	return &Ethernet{claim, n}
}

// HandleARP answers for the pseudo address and learns the MACs of hosts. It counts ARP that
// concerns only others as DropARP.
func (e *Ethernet) HandleARP(f *packet.Frame, now int64) packet.DropReason {
	m, err := ParseARP(f)
	if err != nil {
		return packet.DropMalformed
	}
	others := m.Target != e.Claim.address && m.Sender != e.Claim.address
	if others && !e.sendsTo(m.Sender) {
		return packet.DropARP // as the programs do (arp_kind of bpf/limit.h)
	}
	asked := e.Claim.handle(m, f, now)
	if m.Sender != packet.NoAddr && m.Sender != e.Claim.address {
		e.Hear(m.Sender, m.SenderMAC, asked, now)
	}
	if others {
		return packet.DropARP
	}
	return packet.Keep
}

// Tick sends the announcements and the ARP requests that are due.
func (e *Ethernet) Tick(now int64) {
	e.Claim.tick(now)
	e.Neighbours.tick(now)
}
