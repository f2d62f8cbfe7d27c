package vnicbridge

import (
	"slices"
	"sync"
	"time"
)

// Bounds on fragments that are on their way (F7). Linux waits as long for the
// rest of a datagram (ipfrag_time).
const (
	fragmentTime     = 30 * time.Second
	maxDatagrams     = 4096    // in fragments at once
	maxHeldPerPacket = 64      // fragments that came before their first
	maxHeldBytes     = 4 << 20 // of such fragments, in all
)

// fragmentKey identifies a datagram in fragments, as it comes in (RFC 791).
type fragmentKey struct {
	src, dst addr
	proto    Protocol
	id       uint16
	port     uint32
}

// fragmentTable remembers where the first fragment of a datagram went, so that
// the rest, which has no ports, follows it. Fragments that come before the first
// are held.
type fragmentTable struct {
	mu        sync.Mutex
	datagrams map[fragmentKey]*datagram
	taken     map[fragmentKey]*datagram // by how they leave
	held      int                       // bytes
}

type datagram struct {
	in      *port
	came    int64
	flow    *flow // nil while the first fragment is missing
	dir     direction
	outKey  fragmentKey
	waiting []frame
}

func newFragmentTable() *fragmentTable {
	return &fragmentTable{datagrams: make(map[fragmentKey]*datagram), taken: make(map[fragmentKey]*datagram)}
}

// carryFragment moves a fragment the way that the first of its datagram goes.
func (fw *forwarder) carryFragment(a *arrival) dropReason {
	key := fragmentKey{a.src, a.dst, a.proto, a.id(), a.in.index}
	if a.later {
		d, verdict := fw.fragments.follow(key, a)
		if d == nil {
			return verdict
		}
		return a.leaveAs(d)
	}
	fl, dir, verdict := fw.flowOf(a)
	if fl == nil {
		return verdict
	}
	d, waiting := fw.fragments.lead(key, fl, dir, a)
	if d == nil {
		return dropFragment
	}
	first := a.leaveAs(d)
	for i := range waiting {
		rest := arrival{in: a.in, frame: &waiting[i], now: a.now, out: a.out}
		if rest.packet, verdict = parseIPv4(rest.frame); verdict == keep {
			verdict = rest.leaveAs(d)
		}
		if verdict != keep {
			a.in.drops[verdict].Add(1)
		}
	}
	return first
}

// leaveAs sends a fragment on with its datagram.
func (a *arrival) leaveAs(d *datagram) dropReason {
	to, tuple := d.flow.otherEnd(d.dir)
	a.rewriteID(d.outKey.id)
	a.rewrite(tuple, a.frame.checksumUnfinished())
	return to.emit(a, tuple.dst)
}

// datagram returns the record of a datagram, a new one if there is room.
func (t *fragmentTable) datagram(key fragmentKey, a *arrival) *datagram {
	d := t.datagrams[key]
	if d == nil && len(t.datagrams) < maxDatagrams {
		d = &datagram{in: a.in, came: a.now}
		t.datagrams[key] = d
	}
	return d
}

// follow returns the datagram of a fragment that is not the first, or holds the
// fragment until the first comes.
func (t *fragmentTable) follow(key fragmentKey, a *arrival) (*datagram, dropReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.datagram(key, a)
	if d == nil {
		return nil, dropFragment
	}
	if d.flow != nil {
		return d, keep
	}
	if len(d.waiting) >= maxHeldPerPacket || t.held+len(a.frame.data) > maxHeldBytes {
		return nil, dropFragment
	}
	d.waiting = append(d.waiting, frame{data: slices.Clone(a.frame.data)})
	t.held += len(a.frame.data)
	return nil, keep
}

// lead records the way of a datagram's first fragment, and returns the fragments
// that waited for it. Its identification is kept, unless another datagram leaves
// with the same one towards the same host now (RFC 6864 §4.3).
func (t *fragmentTable) lead(key fragmentKey, fl *flow, dir direction, a *arrival) (*datagram, []frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.datagram(key, a)
	if d == nil {
		return nil, nil
	}
	if d.flow == nil {
		to, tuple := fl.otherEnd(dir)
		d.flow, d.dir = fl, dir
		d.outKey = fragmentKey{tuple.src, tuple.dst, key.proto, key.id, to.index}
		for t.taken[d.outKey] != nil {
			d.outKey.id++
		}
		t.taken[d.outKey] = d
	}
	waiting := d.waiting
	t.release(d)
	return d, waiting
}

// release forgets the fragments that wait.
func (t *fragmentTable) release(d *datagram) {
	for _, f := range d.waiting {
		t.held -= len(f.data)
	}
	d.waiting = nil
}

// sweep forgets datagrams that came too long ago.
func (t *fragmentTable) sweep(now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, d := range t.datagrams {
		if now-d.came < int64(fragmentTime) {
			continue
		}
		d.in.drops[dropFragment].Add(uint64(len(d.waiting)))
		t.release(d)
		delete(t.datagrams, key)
		if d.flow != nil {
			delete(t.taken, d.outKey)
		}
	}
}
