package vnicbridge

import "log/slog"

// ethernet is the link of a NIC, on which hosts have MACs and find them by ARP: the NIC
// answers for its pseudo address there (A1, A2), and resolves next hops (A7).
type ethernet struct {
	claim *addressClaim
	*neighbours
}

// newEthernet makes the link of a NIC. ours tells whether a MAC is that of one of our NICs.
// The caller sets learned, publish and sentByKernel before use.
func newEthernet(nic *port, ours func(MAC) bool, log *slog.Logger) *ethernet {
	claim := newAddressClaim(nic.nic.address, nic.mac, ours, nic.transmit, log)
	n := newNeighbours(nic.nic.network)
	n.send = nic.transmit
	n.gaveUp = func(frames int) { nic.drops[dropUnresolved].Add(uint64(frames)) }
	n.ask = func(target addr, to MAC) {
		nic.transmit([]frame{claim.request(nic.nic.address, target, to)})
	}
	return &ethernet{claim, n}
}

// handleARP answers for the pseudo address and learns the neighbours' MACs.
func (e *ethernet) handleARP(f *frame, now int64) dropReason {
	m, err := parseARP(f)
	if err != nil {
		return dropMalformed
	}
	others := m.target != e.claim.address && m.sender != e.claim.address
	if others && !e.sendsTo(m.sender) {
		return dropARP // as the programs do (arp_kind of bpf/limit.h)
	}
	asked := e.claim.handle(m, f, now)
	if m.sender != noAddr && m.sender != e.claim.address {
		e.hear(m.sender, m.senderMAC, asked, now)
	}
	if others {
		return dropARP
	}
	return keep
}

// tick announces the pseudo address and asks for next hops, if it is time to.
func (e *ethernet) tick(now int64) {
	e.claim.tick(now)
	e.neighbours.tick(now)
}
