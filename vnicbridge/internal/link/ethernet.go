package link

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Ethernet is the [Link] of a NIC for IPv4, on which ARP resolves addresses. It answers for
// the pseudo address (A1, A2) and resolves next hops (A7).
type Ethernet struct {
	*addressClaim
	*Neighbours
}

func newEthernet(nic *iface.Iface, o Options) *Ethernet {
	claim := newAddressClaim(nic.NIC.Address, nic.MAC, nic.Transmit, o)
	n := NewNeighbours(nic.NIC.Network)
	n.send = nic.Transmit
	n.GaveUp = func(frames int) { nic.Drops[packet.DropUnresolved].Add(uint64(frames)) }
	n.Ask = func(target packet.Addr, to config.MAC) {
		sender := nic.NIC.Address
		if nic.Unclaimed() {
			sender = packet.NoAddr // as in a probe, which hosts answer (RFC 5227 §2.1.1)
		}
		nic.Transmit([]packet.Frame{claim.request(sender, target, to)})
	}
	return &Ethernet{claim, n}
}

// Table implements [Link].
func (e *Ethernet) Table() *Neighbours { return e.Neighbours }

// HandleNeighbour implements [iface.Link] for ARP. It counts ARP that concerns only others as
// DropARP.
func (e *Ethernet) HandleNeighbour(f *packet.Frame, now int64) packet.DropReason {
	m, err := ParseARP(f)
	if err != nil {
		return packet.DropMalformed
	}
	others := m.Target != e.address && m.Sender != e.address
	if others && !e.sendsTo(m.Sender) {
		return packet.DropARP // as the programs do (arp_kind of bpf/limit.h)
	}
	asked := e.handle(m, f, now)
	if m.Sender != packet.NoAddr && m.Sender != e.address {
		e.Hear(m.Sender, m.SenderMAC, asked, now)
	}
	if others {
		return packet.DropARP
	}
	return packet.Keep
}

// Close implements [iface.Link]. ARP has no message for a host that leaves.
func (e *Ethernet) Close() {}

// Tick sends the announcements and the ARP requests that are due.
func (e *Ethernet) Tick(now int64) {
	e.addressClaim.tick(now)
	e.Neighbours.tick(now)
}
