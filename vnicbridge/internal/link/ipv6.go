package link

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/time/rate"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// IPv6NeighbourBounds are the bounds of next-hop resolution on a link of IPv6 (L2; RFC 6583):
// see [NeighbourBounds].
var IPv6NeighbourBounds = [neighbourParts]int{PartResolving: 256, PartHeard: 4096, PartUsed: 4096}

// SolicitationRate is how many solicitations a second go to a group, at most. Those for
// flows that segments open have a rate limit of their own.
const SolicitationRate = 100

// IPv6 is the [Link] of a NIC for IPv6. It answers for the pseudo address and for the
// bridge's link-local address (A1, A2, A8), resolves next hops by NDP (A7), and reports the
// groups of both addresses by MLD (A9). It never acts on Router Advertisements and redirects
// (S6).
type IPv6 struct {
	*Neighbours
	nic  *iface.Iface
	ours func(config.MAC) bool
	log  *slog.Logger

	// derive returns the link-local address after a number of conflicts. It is nil if the
	// address is configured.
	derive func(conflicts uint8) packet.Addr
	asker  packet.Addr // a link-local address that no other machine has; solicits while standing by

	// The device and the groups that it takes frames to. They belong to Acquire and
	// Announce, which do not run at the same time.
	device iface.NICDevice
	joined []packet.Addr

	rivals chan struct{}                            // another host turned out to have an address that is not valid yet
	rival  func(address netip.Addr, mac config.MAC) // is told of another host with an address
	fails  func() bool                              // see Options.FailsOver

	mu                lockorder.Mutex[lockorder.Claim] // guards what follows
	standby           bool                             // another machine has the addresses, and is no rival
	pseudo, linkLocal ndpClaim
	announces         int   // announcements still to send
	announced         int64 // when the last announcement was sent, in ns; 0: never
	listener          listener
	ticked            int64 // when Tick was last called, in ns
}

func newIPv6(nic *iface.Iface, o Options) *IPv6 {
	l := &IPv6{
		Neighbours: NewNeighbours(nic.NIC.Network), nic: nic, ours: o.Ours, log: o.Log, rival: o.Rival, fails: o.FailsOver,
		rivals: make(chan struct{}, 1),
		pseudo: newNDPClaim(nic.NIC.Address), linkLocal: newNDPClaim(packet.AddrOf(o.LinkLocal)),
	}
	mac := o.MAC
	if mac.IsZero() {
		mac = nic.MAC()
	}
	l.asker = linkLocal(o.Key, o.Bridge, mac, 0)
	if !o.LinkLocal.IsValid() {
		l.derive = func(conflicts uint8) packet.Addr { return linkLocal(o.Key, o.Bridge, mac, conflicts) }
		l.linkLocal = newNDPClaim(l.derive(0))
	}
	l.Neighbours.Table.Bounds = IPv6NeighbourBounds
	for i := range l.broadcasts {
		l.broadcasts[i] = rate.NewLimiter(SolicitationRate, SolicitationRate)
	}
	l.Neighbours.send = nic.Transmit
	l.GaveUp = func(frames int) { nic.Drops[packet.DropUnresolved].Add(uint64(frames)) }
	l.Ask = l.ask
	return l
}

// Table implements [Link].
func (l *IPv6) Table() *Neighbours { return l.Neighbours }

// LinkLocal returns the bridge's link-local address.
func (l *IPv6) LinkLocal() packet.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.linkLocal.address
}

func (l *IPv6) send(frames ...packet.Frame) { l.nic.Transmit(frames) }

// ask solicits a next hop: from a host whose MAC is known, or from the group of its address.
func (l *IPv6) ask(target packet.Addr, to config.MAC) {
	from := l.nic.NIC.Address
	if l.nic.Unclaimed() {
		from = l.asker
	}
	m := NDPMessage{From: from, To: target, Target: target, MAC: l.nic.MAC()}
	if to == config.BroadcastMAC {
		m.To = SolicitedNode(target)
		to = GroupMAC(m.To)
	}
	l.send(m.Frame(l.nic.MAC(), to))
}

// Tick sends the announcements, the reports and the solicitations that are due.
func (l *IPv6) Tick(now int64) {
	l.mu.Lock()
	l.ticked = now
	l.announceDue(now)
	l.reportDue(now)
	l.mu.Unlock()
	l.Neighbours.tick(now)
}

// reportDue sends the reports of MLD that are due. The caller holds the lock.
func (l *IPv6) reportDue(now int64) { l.report(l.listener.due(now), now) }

// report sends records from the link-local address, or from :: before that is valid
// (RFC 3590 §4). While standing by, it sends none. The caller holds the lock.
func (l *IPv6) report(records []record, now int64) {
	if l.standby {
		return
	}
	from := unspecified
	if l.linkLocal.valid {
		from = l.linkLocal.address
	}
	if frames := l.listener.frames(l.nic.MAC(), from, records, now); len(frames) > 0 {
		l.send(frames...)
	}
}

// HandleNeighbour implements [iface.Link] for NDP and MLD. It counts messages that concern
// only others, and those on which it never acts, as DropARP.
func (l *IPv6) HandleNeighbour(f *packet.Frame, now int64) packet.DropReason {
	if dst := f.DstMAC(); !dst.IsGroup() && dst != l.nic.MAC() {
		return packet.DropNotForUs
	}
	m, err := parseICMPv6(f)
	if err != nil {
		return packet.DropMalformed
	}
	switch m.kind() {
	case neighborSolicitation, neighborAdvertisement:
		n, err := m.parseNDP()
		if err != nil || !n.senderOf(f).IsUnicast() {
			return packet.DropMalformed
		}
		return l.handleNDP(n, f, now)
	case packet.MLDQuery:
		q, err := m.parseQuery()
		if err != nil {
			return packet.DropMalformed
		}
		return l.handleQuery(q, now)
	}
	return packet.DropARP
}

func (l *IPv6) handleNDP(m NDPMessage, f *packet.Frame, now int64) packet.DropReason {
	if sender := m.senderOf(f); sender == l.nic.MAC() || l.ours(sender) {
		return packet.DropARP // our own frame, back through a loop or from another of our NICs
	}
	if m.Advertisement {
		if l.contradicts(m, f, now) || !l.Neighbours.advertised(m, now) {
			return packet.DropARP
		}
		return packet.Keep
	}
	if !l.answer(m, f, now) {
		return packet.DropARP
	}
	if !m.MAC.IsZero() {
		l.Neighbours.solicited(m.From, m.MAC, now)
	}
	return packet.Keep
}

// handleQuery makes the next ticks answer a query. If the answer is due before that, it
// answers at once.
func (l *IPv6) handleQuery(q query, now int64) packet.DropReason {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.standby || !l.listener.queried(q, now) {
		return packet.DropARP
	}
	l.reportDue(now)
	return packet.Keep
}

// groups returns the solicited-node groups of both addresses. The caller holds the lock.
func (l *IPv6) groups() []packet.Addr {
	return slices.Compact([]packet.Addr{SolicitedNode(l.pseudo.address), SolicitedNode(l.linkLocal.address)})
}

// listen makes the NIC take the frames to the groups of both addresses and to all nodes, and
// no longer those to other groups. A NIC that was opened again takes none of them yet.
func (l *IPv6) listen() error {
	if device := l.nic.Device().(iface.NICDevice); device != l.device {
		l.device, l.joined = device, nil
	}
	l.mu.Lock()
	groups := l.groups()
	l.report(l.listener.set(groups), l.ticked)
	l.mu.Unlock()
	groups = append(groups, allNodes)
	for _, group := range l.joined {
		if !slices.Contains(groups, group) {
			_ = l.device.Leave(GroupMAC(group)) // the NIC takes some frames too many
		}
	}
	for _, group := range groups {
		if slices.Contains(l.joined, group) {
			continue
		}
		if err := l.device.Join(GroupMAC(group)); err != nil {
			return fmt.Errorf("receiving what goes to the multicast group %s: %w", group.Netip(), err)
		}
	}
	l.joined = groups
	return nil
}

// Announce implements [Link].
func (l *IPv6) Announce() {
	if err := l.listen(); err != nil {
		l.log.Error("other hosts cannot find the bridge by IPv6", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.announceSoon()
}

// Close implements [iface.Link]: it reports that the NIC leaves the groups, and ends the
// answers for the addresses. The groups that the device has joined end with the device.
func (l *IPv6) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report(l.listener.set(nil), l.ticked)
	l.pseudo.valid, l.linkLocal.valid = false, false
}
