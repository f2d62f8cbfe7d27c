package link

import (
	"log/slog"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Link is the link of a NIC, for one family of addresses.
type Link interface {
	iface.Link
	// Acquire claims the pseudo address. If probing is set, it first asks the link for
	// another owner. The error tells which host has the address.
	Acquire(probing bool) error
	// Announce makes the next ticks announce the address again. The plane calls it when the
	// NIC comes back up, and when the NIC's MAC changes.
	Announce()
	// SetGateway sets the gateway of the link. An invalid address means that there is none.
	SetGateway(gateway netip.Addr)
	// AwaitGateway asks for the gateway and waits for the answer, at most a second. It
	// returns false if the gateway does not answer in time.
	AwaitGateway(now func() int64) bool
	// Lookup returns a host's MAC. ok is false if the host is not resolved.
	Lookup(host netip.Addr) (mac config.MAC, ok bool)
	// Table returns the next hops, whose functions the caller sets before use.
	Table() *Neighbours
}

// New returns the link of a NIC for the family of the iface. ours tells whether a MAC is that
// of one of our NICs. The caller sets Learned, Publish and SentByKernel of the table before
// use.
func New(nic *iface.Iface, ours func(config.MAC) bool, log *slog.Logger) Link {
	return newEthernet(nic, ours, log)
}

// Ethernet is the [Link] of a NIC for IPv4, on which ARP resolves addresses. It answers for
// the pseudo address (A1, A2) and resolves next hops (A7).
type Ethernet struct {
	*addressClaim
	*Neighbours
}

func newEthernet(nic *iface.Iface, ours func(config.MAC) bool, log *slog.Logger) *Ethernet {
	claim := newAddressClaim(nic.NIC.Address, nic.MAC, ours, nic.Transmit, log)
	n := NewNeighbours(nic.NIC.Network)
	n.send = nic.Transmit
	n.GaveUp = func(frames int) { nic.Drops[packet.DropUnresolved].Add(uint64(frames)) }
	n.Ask = func(target packet.Addr, to config.MAC) {
		nic.Transmit([]packet.Frame{claim.request(nic.NIC.Address, target, to)})
	}
	return &Ethernet{claim, n}
}

// Table implements [Link].
func (e *Ethernet) Table() *Neighbours { return e.Neighbours }

// HandleNeighbour implements [iface.Link] for ARP: it answers for the pseudo address and learns the MACs of hosts. It counts ARP that
// concerns only others as DropARP.
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

// Tick sends the announcements and the ARP requests that are due.
func (e *Ethernet) Tick(now int64) {
	e.addressClaim.tick(now)
	e.Neighbours.tick(now)
}
