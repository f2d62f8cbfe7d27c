package vnicbridge

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// neighbourPart is a part of the table of neighbours. Each part has its own bound, so that
// entries that anybody can cause take no room from hosts to which frames go.
type neighbourPart int

const (
	partResolving neighbourPart = iota // asked for: frames wait
	partHeard                          // turned to us, but no frame ever went there
	partUsed                           // frames go there
	neighbourParts
)

// neighbourBounds are how many entries each part has at most. A part that is full evicts
// the entries that were idle for the longest. The bound of partUsed is the size of the
// programs' map of neighbours, a /16.
var neighbourBounds = [neighbourParts]int{partResolving: 4096, partHeard: 4096, partUsed: 1 << 16}

// evictShare is the share of a full part that is evicted at once, because it takes a scan
// of all entries to find the idlest.
const evictShare = 16

// neighbour is a host on a NIC's link.
type neighbour struct {
	mac       MAC          // zero while it is unknown
	made      int64        // when the entry was
	changed   int64        // when the MAC was set
	confirmed int64        // when the host was last heard of
	lastUse   atomic.Int64 // when the last frame was sent there; 0: none was
	asked     int64
	asks      int  // since the last answer
	contested bool // meanwhile another MAC claimed the address
	own       bool // a segment opened a flow to it
	waiting   []frame
}

func (e *neighbour) part() neighbourPart {
	switch {
	case e.mac.IsZero():
		return partResolving
	case e.lastUse.Load() == 0:
		return partHeard
	default:
		return partUsed
	}
}

// idleSince is when the entry last was of any use.
func (e *neighbour) idleSince() int64 {
	switch e.part() {
	case partResolving:
		return e.made
	case partHeard:
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
	entries map[addr]*neighbour
	sizes   [neighbourParts]int
	bounds  [neighbourParts]int
}

func newNeighbourTable() neighbourTable {
	return neighbourTable{entries: make(map[addr]*neighbour), bounds: neighbourBounds}
}

// add makes an entry without a MAC.
func (t *neighbourTable) add(host addr, now int64) *neighbour {
	e := &neighbour{made: now}
	t.entries[host] = e
	t.sizes[partResolving]++
	return e
}

func (t *neighbourTable) remove(host addr) *neighbour {
	e := t.entries[host]
	delete(t.entries, host)
	t.sizes[e.part()]--
	return e
}

// change changes an entry, and with it the part that it is in.
func (t *neighbourTable) change(e *neighbour, do func()) {
	t.sizes[e.part()]--
	do()
	t.sizes[e.part()]++
}

// used notes that a frame is sent to a host.
func (t *neighbourTable) used(e *neighbour, now int64) {
	t.change(e, func() { e.lastUse.Store(max(now, 1)) })
}

// resolved notes which MAC a host has.
func (t *neighbourTable) resolved(e *neighbour, mac MAC, now int64) {
	t.change(e, func() {
		if e.mac != mac {
			e.mac, e.changed = mac, now
		}
		e.confirmed, e.asks, e.contested = now, 0, false
	})
}

// idlest returns the entries that a full part evicts. It leaves out those that are kept.
func (t *neighbourTable) idlest(p neighbourPart, kept func(addr) bool) []addr {
	if t.sizes[p] < t.bounds[p] {
		return nil
	}
	type candidate struct {
		host addr
		idle int64
	}
	var found []candidate
	for host, e := range t.entries {
		if e.part() == p && !kept(host) {
			found = append(found, candidate{host, e.idleSince()})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(a.idle, b.idle) })
	hosts := make([]addr, 0, t.bounds[p]/evictShare+1)
	for _, c := range found[:min(len(found), cap(hosts))] {
		hosts = append(hosts, c.host)
	}
	return hosts
}
