package vnicbridge

import (
	"container/list"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// Bounds on the datagrams whose fragments come in at one port (F7). Beyond each of
// them the oldest datagram makes room for the newest: a flood shortens how long a
// fragment may be late, and keeps none out. Each port has bounds of its own.
const (
	fragmentTime = 30 * time.Second // as Linux waits for the rest of a datagram (ipfrag_time)
	maxHeadless  = 4096             // datagrams whose first fragment is missing
	maxLed       = 4096             // datagrams whose first fragment has left
	maxOver      = 8192             // datagrams that are over, whose identifications rest
	maxHeldBytes = 4 << 20          // of fragments that wait for their first
	heldOverhead = 64               // bytes of memory that such a fragment takes beside its own
	maxParts     = 512              // fragments of a datagram
	idAttempts   = 64               // identifications that are tried
)

// fragmentTable remembers where the first fragment of a datagram went, so that
// the rest, which has no ports, follows it. Fragments that come before the first
// are held.
type fragmentTable struct {
	mu    sync.Mutex
	seed  maphash.Seed
	ports map[*port]*fragmentQueue
	taken map[fragmentKey]*datagram // by how they leave
}

// fragmentQueue is the datagrams of one port. Each is in one list.
type fragmentQueue struct {
	datagrams           map[fragmentKey]*datagram // those that are not over
	headless, led, over datagramList
	held                int // bytes
}

// datagramList is some datagrams, the oldest first.
type datagramList struct {
	list.List
	most int
}

type datagram struct {
	key  fragmentKey
	in   *port
	list *datagramList
	elem *list.Element
	came int64 // when it came into the list

	parts   []part // that have come, in the order of their bytes
	length  int    // of all of them
	end     int    // of the datagram; 0 while the last part is missing
	refused bool   // nothing of it goes on any more

	begun   bool   // the first fragment has come
	first   uint64 // a hash of it
	flow    *flow  // nil while no fragment has left
	dir     direction
	out     fragmentKey
	waiting []frame
}

func newFragmentTable() *fragmentTable {
	return &fragmentTable{
		seed: maphash.MakeSeed(), ports: make(map[*port]*fragmentQueue), taken: make(map[fragmentKey]*datagram),
	}
}

func (t *fragmentTable) queue(p *port) *fragmentQueue {
	q := t.ports[p]
	if q == nil {
		q = &fragmentQueue{datagrams: make(map[fragmentKey]*datagram)}
		q.headless.most, q.led.most, q.over.most = maxHeadless, maxLed, maxOver
		t.ports[p] = q
	}
	return q
}

// follow returns the datagram of a fragment that is not the first, or holds the
// fragment until the first comes.
func (t *fragmentTable) follow(key fragmentKey, s part, a *arrival) (*datagram, dropReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queue(a.in)
	d := q.datagrams[key]
	if d == nil {
		d = t.begin(q, key, a)
	}
	if !q.accept(d, s) {
		return nil, dropFragment
	}
	if d.flow == nil {
		t.hold(q, d, a.frame)
		return nil, keep
	}
	if d.whole() {
		t.finish(q, d, a.now)
	}
	return d, keep
}

// lead gives a datagram the way of its first fragment, and returns it with the fragments
// that waited for that. nil: the fragment is a duplicate, or overlaps with one that waits.
func (t *fragmentTable) lead(key fragmentKey, s part, fl *flow, dir direction, a *arrival) (*datagram, []frame) {
	first := maphash.Bytes(t.seed, a.l4)
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queue(a.in)
	if d := q.datagrams[key]; d != nil && d.begun && d.first == first {
		return nil, nil
	}
	d := t.beginsWith(q, key, a)
	d.first = first
	if !q.accept(d, s) {
		return nil, nil
	}
	d.flow, d.dir = new(*fl), dir // fl is the first fragment's only
	t.identify(d)
	waiting := d.waiting
	q.release(d)
	t.move(q, d, &q.led, a.now)
	if d.whole() {
		t.finish(q, d, a.now)
	}
	return d, waiting
}

// refuse records that the first fragment of a datagram goes nowhere: the rest must not
// follow the first fragment of an older datagram.
func (t *fragmentTable) refuse(key fragmentKey, a *arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queue(a.in)
	q.refuse(t.beginsWith(q, key, a))
}

// begin makes a datagram of which no fragment has come.
func (t *fragmentTable) begin(q *fragmentQueue, key fragmentKey, a *arrival) *datagram {
	d := &datagram{key: key, in: a.in}
	q.datagrams[key] = d
	t.move(q, d, &q.headless, a.now)
	return d
}

// beginsWith returns the datagram of a first fragment: one that lacks it, or a new one.
func (t *fragmentTable) beginsWith(q *fragmentQueue, key fragmentKey, a *arrival) *datagram {
	d := q.datagrams[key]
	if d != nil && d.begun {
		t.finish(q, d, a.now)
		d = nil
	}
	if d == nil {
		d = t.begin(q, key, a)
	}
	d.begun = true
	return d
}

// finish ends a datagram: its identification is free for the sender's next one. It rests
// until the datagram is forgotten, so that no other sender's leaves with it.
func (t *fragmentTable) finish(q *fragmentQueue, d *datagram, now int64) {
	delete(q.datagrams, d.key)
	d.parts = nil
	t.move(q, d, &q.over, now)
}

// identify chooses the identification with which a datagram leaves: its own, unless the
// receiver may still have a part of another datagram with the same one (RFC 6864 §4.3,
// §5.3.1).
func (t *fragmentTable) identify(d *datagram) {
	to, tuple := d.flow.otherEnd(d.dir)
	d.out = fragmentKey{tuple.src, tuple.dst, d.key.proto, d.key.id, to.index}
	for range idAttempts {
		other := t.taken[d.out]
		if other == nil || other.key == d.key && other.whole() {
			break
		}
		d.out.id = uint16(randomInt(1 << 16))
	}
	t.taken[d.out] = d
}

// accept takes a part of a datagram into account. False: the fragment goes no further.
// One that has come before is a duplicate. If one overlaps with another, or contradicts
// what is known of the datagram's length, the datagram is refused, because hosts differ
// in what they make of it (RFC 1858, RFC 5722).
func (q *fragmentQueue) accept(d *datagram, s part) bool {
	if d.refused {
		return false
	}
	i, found := slices.BinarySearchFunc(d.parts, s.from, func(p part, from int) int { return p.from - from })
	if found && d.parts[i] == s {
		return false
	}
	overlaps := i > 0 && d.parts[i-1].to > s.from || i < len(d.parts) && d.parts[i].from < s.to
	contradicts := s.last && (d.end != 0 || i < len(d.parts)) || d.end != 0 && s.to > d.end
	if overlaps || contradicts || len(d.parts) >= maxParts {
		q.refuse(d)
		return false
	}
	d.parts = slices.Insert(d.parts, i, s)
	d.length += s.to - s.from
	if s.last {
		d.end = s.to
	}
	return true
}

// whole tells whether all parts have come.
func (d *datagram) whole() bool { return d.end != 0 && d.length == d.end }

// hold keeps a fragment until the first of its datagram comes.
func (t *fragmentTable) hold(q *fragmentQueue, d *datagram, f *frame) {
	d.waiting = append(d.waiting, frame{data: slices.Clone(f.data)})
	q.held += len(f.data) + heldOverhead
	for q.held > maxHeldBytes {
		t.forget(q, q.headless.oldest())
	}
}

// release takes from a datagram the fragments that wait.
func (q *fragmentQueue) release(d *datagram) {
	for _, f := range d.waiting {
		q.held -= len(f.data) + heldOverhead
	}
	d.waiting = nil
}

// refuse drops the fragments of a datagram that wait, and those that come.
func (q *fragmentQueue) refuse(d *datagram) {
	d.in.drops[dropFragment].Add(uint64(len(d.waiting)))
	q.release(d)
	d.refused, d.parts = true, nil
}

// oldest is the datagram that came first, or nil.
func (l *datagramList) oldest() *datagram {
	if e := l.Front(); e != nil {
		return e.Value.(*datagram)
	}
	return nil
}

// move puts a datagram at the end of a list. If that is full, the oldest is forgotten.
func (t *fragmentTable) move(q *fragmentQueue, d *datagram, to *datagramList, now int64) {
	if d.list != nil {
		d.list.Remove(d.elem)
	}
	if to.Len() >= to.most {
		t.forget(q, to.oldest())
	}
	d.list, d.elem, d.came = to, to.PushBack(d), now
}

func (t *fragmentTable) forget(q *fragmentQueue, d *datagram) {
	q.refuse(d)
	d.list.Remove(d.elem)
	if q.datagrams[d.key] == d {
		delete(q.datagrams, d.key)
	}
	if t.taken[d.out] == d {
		delete(t.taken, d.out)
	}
}

// sweep forgets datagrams that came too long ago, and ports without any.
func (t *fragmentTable) sweep(now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, q := range t.ports {
		left := 0
		for _, l := range []*datagramList{&q.headless, &q.led, &q.over} {
			for d := l.oldest(); d != nil && now-d.came >= int64(fragmentTime); d = l.oldest() {
				t.forget(q, d)
			}
			left += l.Len()
		}
		if left == 0 {
			delete(t.ports, p)
		}
	}
}
