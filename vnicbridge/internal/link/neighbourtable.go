package link

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// NeighbourPart is a part of the table of neighbours. Each part has its own bound, because
// anybody can cause entries of the first two parts: they must not displace hosts to which
// frames go.
type NeighbourPart int

const (
	PartResolving NeighbourPart = iota // the MAC is unknown; frames wait
	PartHeard                          // the host has asked for us, but no frame has gone there
	PartUsed                           // frames go there
	neighbourParts
)

// NeighbourBounds are the bounds of the parts, in entries. A full part evicts its idlest
// entries. The bound of PartUsed is the size of the programs' map `neighbours` (bpf/maps.h),
// and suffices for a /16.
var NeighbourBounds = [neighbourParts]int{PartResolving: 4096, PartHeard: 4096, PartUsed: 1 << 16}

// evictShare is the share of a full part that is evicted at once: 1/16. Finding the idlest
// entries takes a scan of all, so evicting them one by one would be slow.
const evictShare = 16

// neighbour is a host on a NIC's link. Times are those of the plane's clock, in ns.
type neighbour struct {
	MAC       config.MAC   // zero while it is unknown
	made      int64        // when the entry was made
	changed   int64        // when the MAC was set
	confirmed int64        // when the host last sent ARP or NDP
	lastUse   atomic.Int64 // when the last frame was sent there; 0: none was
	asked     int64        // when the last request was sent
	asks      int          // requests since the last answer
	contested bool         // since then, another MAC has claimed the address
	own       bool         // a segment has opened a flow to the host
	waiting   []packet.Frame
}

// Part returns the part of the table that the entry belongs to.
func (e *neighbour) Part() NeighbourPart {
	switch {
	case e.MAC.IsZero():
		return PartResolving
	case e.lastUse.Load() == 0:
		return PartHeard
	default:
		return PartUsed
	}
}

// idleSince returns when the entry was last of use, in ns.
func (e *neighbour) idleSince() int64 {
	switch e.Part() {
	case PartResolving:
		return e.made
	case PartHeard:
		return e.confirmed
	default:
		return e.lastUse.Load()
	}
}

// useUnit is the resolution of lastUse, in ns (67 ms). It is so coarse that the packets of
// several CPUs rarely write the field.
const useUnit = 1 << 26

// use records that a frame is sent to a host in PartUsed.
func (e *neighbour) use(now int64) {
	if now-e.lastUse.Load() >= useUnit {
		e.lastUse.Store(now)
	}
}

// neighbourTable holds the hosts on a NIC's link. It has no lock.
type neighbourTable struct {
	Entries map[packet.Addr]*neighbour
	Sizes   [neighbourParts]int
	Bounds  [neighbourParts]int // see NeighbourBounds
}

// NewNeighbourTable returns an empty table with the bounds of NeighbourBounds.
func NewNeighbourTable() neighbourTable {
	return neighbourTable{Entries: make(map[packet.Addr]*neighbour), Bounds: NeighbourBounds}
}

// add makes an entry without a MAC, and returns it.
func (t *neighbourTable) add(host packet.Addr, now int64) *neighbour {
	e := &neighbour{made: now}
	t.Entries[host] = e
	t.Sizes[PartResolving]++
	return e
}

func (t *neighbourTable) remove(host packet.Addr) *neighbour {
	e := t.Entries[host]
	delete(t.Entries, host)
	t.Sizes[e.Part()]--
	return e
}

// change runs a function that may move the entry to another part.
func (t *neighbourTable) change(e *neighbour, do func()) {
	t.Sizes[e.Part()]--
	do()
	t.Sizes[e.Part()]++
}

// used records that a frame is sent to a host.
func (t *neighbourTable) used(e *neighbour, now int64) {
	t.change(e, func() { e.lastUse.Store(max(now, 1)) })
}

// resolved records that a host has answered with a MAC.
func (t *neighbourTable) resolved(e *neighbour, mac config.MAC, now int64) {
	t.change(e, func() {
		if e.MAC != mac {
			e.MAC, e.changed = mac, now
		}
		e.confirmed, e.asks, e.contested = now, 0, false
	})
}

// idlest returns the entries to evict from a part, if the part is full. It returns no entry
// for which kept is true.
func (t *neighbourTable) idlest(p NeighbourPart, kept func(packet.Addr) bool) []packet.Addr {
	if t.Sizes[p] < t.Bounds[p] {
		return nil
	}
	type candidate struct {
		host packet.Addr
		idle int64
	}
	var found []candidate
	for host, e := range t.Entries {
		if e.Part() == p && !kept(host) {
			found = append(found, candidate{host, e.idleSince()})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(a.idle, b.idle) })
	hosts := make([]packet.Addr, 0, t.Bounds[p]/evictShare+1)
	for _, c := range found[:min(len(found), cap(hosts))] {
		hosts = append(hosts, c.host)
	}
	return hosts
}
