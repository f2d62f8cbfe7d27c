package link

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Saved is what a link knows, as a process tells its successor of it.
type Saved struct {
	LinkLocal netip.Addr  `json:"link_local,omitzero"` // of IPv6
	Hosts     []SavedHost `json:"hosts"`
}

// SavedHost is a host on the link whose MAC is known. The times are those of the plane's clock,
// which the successor's goes on from, in ns.
type SavedHost struct {
	Address   netip.Addr `json:"address"`
	MAC       config.MAC `json:"mac"`
	Confirmed int64      `json:"confirmed"`
	Used      int64      `json:"used"` // when the last frame was sent there; 0: none was
}

// Save implements [Link].
func (e *Ethernet) Save() Saved { return Saved{Hosts: e.save()} }

// SaveOwn implements [Link].
func (e *Ethernet) SaveOwn() Saved { return Saved{} }

// Save implements [Link].
func (l *IPv6) Save() Saved {
	s := l.SaveOwn()
	s.Hosts = l.save()
	return s
}

// SaveOwn implements [Link].
func (l *IPv6) SaveOwn() Saved { return Saved{LinkLocal: l.LinkLocal().Netip()} }

// Inherit implements [Link].
func (e *Ethernet) Inherit(from Saved) error {
	e.addressClaim.mu.Lock()
	e.claimed, e.standby = true, false
	e.addressClaim.mu.Unlock()
	e.restore(from.Hosts)
	return nil
}

// Inherit implements [Link].
func (l *IPv6) Inherit(from Saved) error {
	l.mu.Lock()
	if l.derive != nil && from.LinkLocal.IsValid() {
		l.linkLocal = newNDPClaim(packet.AddrOf(from.LinkLocal))
	}
	l.standby = false
	l.pseudo.valid, l.linkLocal.valid = true, true
	l.mu.Unlock()
	l.restore(from.Hosts)
	return l.listen()
}

// save returns the hosts whose MACs are known.
func (n *Neighbours) save() (hosts []SavedHost) {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	for address, e := range n.Table.Entries {
		if e.Part() != PartResolving {
			hosts = append(hosts, SavedHost{address.Netip(), e.MAC, e.confirmed, e.lastUse.Load()})
		}
	}
	return hosts
}

// restore makes the hosts known that another process knew.
func (n *Neighbours) restore(hosts []SavedHost) {
	n.Mu.Lock()
	for _, h := range hosts {
		address := packet.AddrOf(h.Address)
		e := n.Table.Entries[address]
		if e == nil {
			e = n.Table.add(address, h.Confirmed)
		}
		n.Table.change(e, func() {
			e.MAC, e.changed, e.confirmed = h.MAC, h.Confirmed, h.Confirmed
			e.lastUse.Store(h.Used)
		})
	}
	n.Mu.Unlock()
	n.TellAll()
}
