package link

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// NeighbourPart is a part of the table of neighbours. Each part has its own bound, so that
// entries that anybody can cause take no room from hosts to which frames go.
type NeighbourPart int

const (
	PartResolving NeighbourPart = iota // asked for: frames wait
	PartHeard                          // turned to us, but no frame ever went there
	PartUsed                           // frames go there
	neighbourParts
)

// NeighbourBounds are how many entries each part has at most. A part that is full evicts
// the entries that were idle for the longest. The bound of PartUsed is the size of the
// programs' map of neighbours, a /16.
var NeighbourBounds = [neighbourParts]int{PartResolving: 4096, PartHeard: 4096, PartUsed: 1 << 16}

// evictShare is the share of a full part that is evicted at once, because it takes a scan
// of all entries to find the idlest.
const evictShare = 16

// neighbour is a host on a NIC's link.
type neighbour struct {
	MAC       config.MAC   // zero while it is unknown
	made      int64        // when the entry was
	changed   int64        // when the MAC was set
	confirmed int64        // when the host was last heard of
	lastUse   atomic.Int64 // when the last frame was sent there; 0: none was
	asked     int64
	asks      int  // since the last answer
	contested bool // meanwhile another MAC claimed the address
	own       bool // a segment opened a flow to it
	waiting   []packet.Frame
}

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

// idleSince is when the entry last was of any use.
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

// useUnit is how exactly the time of the last frame is kept, in nanoseconds (67 ms):
// packets of several CPUs then seldom write it.
const useUnit = 1 << 26

// use notes that a frame is sent to a host that had some before.
func (e *neighbour) use(now int64) {
	if now-e.lastUse.Load() >= useUnit {
		e.lastUse.Store(now)
	}
}

// neighbourTable is the hosts on a NIC's link.
type neighbourTable struct {
	Entries map[packet.Addr]*neighbour
	Sizes   [neighbourParts]int
	Bounds  [neighbourParts]int
}

func NewNeighbourTable() neighbourTable {
	return neighbourTable{Entries: make(map[packet.Addr]*neighbour), Bounds: NeighbourBounds}
}

// add makes an entry without a MAC.
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

// change changes an entry, and with it the part that it is in.
func (t *neighbourTable) change(e *neighbour, do func()) {
	t.Sizes[e.Part()]--
	do()
	t.Sizes[e.Part()]++
}

// used notes that a frame is sent to a host.
func (t *neighbourTable) used(e *neighbour, now int64) {
	t.change(e, func() { e.lastUse.Store(max(now, 1)) })
}

// resolved notes which MAC a host has.
func (t *neighbourTable) resolved(e *neighbour, mac config.MAC, now int64) {
	t.change(e, func() {
		if e.MAC != mac {
			e.MAC, e.changed = mac, now
		}
		e.confirmed, e.asks, e.contested = now, 0, false
	})
}

// idlest returns the entries that a full part evicts. It leaves out those that are kept.
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
