package userspace

import (
	"container/list"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// Bounds on the datagrams whose fragments come in at one iface (F7). Beyond each of
// them the oldest datagram makes room for the newest: a flood shortens how long a
// fragment may be late, and keeps none out. Each iface has bounds of its own.
const (
	FragmentTime = 30 * time.Second // as Linux waits for the rest of a datagram (ipfrag_time)
	MaxHeadless  = 4096             // datagrams whose first fragment is missing
	MaxLed       = 4096             // datagrams whose first fragment has left
	MaxOver      = 8192             // datagrams that are over, whose identifications rest
	MaxHeldBytes = 4 << 20          // of fragments that wait for their first
	heldOverhead = 64               // bytes of memory that such a fragment takes beside its own
	maxParts     = 512              // fragments of a datagram
	idAttempts   = 64               // identifications that are tried
)

// fragmentTable remembers where the first fragment of a datagram went, so that
// the rest, which has no ports, follows it. Fragments that come before the first
// are held.
type fragmentTable struct {
	Mu    sync.Mutex
	seed  maphash.Seed
	Ports map[*iface.Iface]*fragmentQueue
	taken map[fragmentKey]*datagram // by how they leave
}

// fragmentQueue is the datagrams of one iface. Each is in one list.
type fragmentQueue struct {
	datagrams           map[fragmentKey]*datagram // those that are not over
	Headless, Led, Over datagramList
	Held                int // bytes
}

// datagramList is some datagrams, the oldest first.
type datagramList struct {
	list.List
	most int
}

type datagram struct {
	key  fragmentKey
	in   *iface.Iface
	list *datagramList
	elem *list.Element
	came int64 // when it came into the list

	parts   []packet.FragmentPart // that have come, in the order of their bytes
	length  int                   // of all of them
	end     int                   // of the datagram; 0 while the last part is missing
	refused bool                  // nothing of it goes on any more

	begun   bool       // the first fragment has come
	first   uint64     // a hash of it
	flow    *flow.Flow // nil while no fragment has left
	dir     flow.Direction
	out     fragmentKey
	waiting []packet.Frame
}

func NewFragmentTable() *fragmentTable {
	return &fragmentTable{
		seed: maphash.MakeSeed(), Ports: make(map[*iface.Iface]*fragmentQueue), taken: make(map[fragmentKey]*datagram),
	}
}

func (t *fragmentTable) queue(p *iface.Iface) *fragmentQueue {
	q := t.Ports[p]
	if q == nil {
		q = &fragmentQueue{datagrams: make(map[fragmentKey]*datagram)}
		q.Headless.most, q.Led.most, q.Over.most = MaxHeadless, MaxLed, MaxOver
		t.Ports[p] = q
	}
	return q
}

// follow returns the datagram of a fragment that is not the first, or holds the
// fragment until the first comes.
func (t *fragmentTable) follow(key fragmentKey, s packet.FragmentPart, a *Arrival) (*datagram, packet.DropReason) {
	t.Mu.Lock()
	defer t.Mu.Unlock()
	q := t.queue(a.In)
	d := q.datagrams[key]
	if d == nil {
		d = t.begin(q, key, a)
	}
	if !q.accept(d, s) {
		return nil, packet.DropFragment
	}
	if d.flow == nil {
		t.hold(q, d, a.Frame)
		return nil, packet.Keep
	}
	if d.whole() {
		t.finish(q, d, a.Now)
	}
	return d, packet.Keep
}

// lead gives a datagram the way of its first fragment, and returns it with the fragments
// that waited for that. nil: the fragment is a duplicate, or overlaps with one that waits.
func (t *fragmentTable) lead(key fragmentKey, s packet.FragmentPart, fl *flow.Flow, dir flow.Direction, a *Arrival) (*datagram, []packet.Frame) {
	first := maphash.Bytes(t.seed, a.L4)
	t.Mu.Lock()
	defer t.Mu.Unlock()
	q := t.queue(a.In)
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
	t.move(q, d, &q.Led, a.Now)
	if d.whole() {
		t.finish(q, d, a.Now)
	}
	return d, waiting
}

// refuse records that the first fragment of a datagram goes nowhere: the rest must not
// follow the first fragment of an older datagram.
func (t *fragmentTable) refuse(key fragmentKey, a *Arrival) {
	t.Mu.Lock()
	defer t.Mu.Unlock()
	q := t.queue(a.In)
	q.refuse(t.beginsWith(q, key, a))
}

// begin makes a datagram of which no fragment has come.
func (t *fragmentTable) begin(q *fragmentQueue, key fragmentKey, a *Arrival) *datagram {
	d := &datagram{key: key, in: a.In}
	q.datagrams[key] = d
	t.move(q, d, &q.Headless, a.Now)
	return d
}

// beginsWith returns the datagram of a first fragment: one that lacks it, or a new one.
func (t *fragmentTable) beginsWith(q *fragmentQueue, key fragmentKey, a *Arrival) *datagram {
	d := q.datagrams[key]
	if d != nil && d.begun {
		t.finish(q, d, a.Now)
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
	t.move(q, d, &q.Over, now)
}

// identify chooses the identification with which a datagram leaves: its own, unless the
// receiver may still have a part of another datagram with the same one (RFC 6864 §4.3,
// §5.3.1).
func (t *fragmentTable) identify(d *datagram) {
	to, tuple := d.flow.OtherEnd(d.dir)
	d.out = fragmentKey{tuple.Src, tuple.Dst, d.key.proto, d.key.id, to.Index}
	for range idAttempts {
		other := t.taken[d.out]
		if other == nil || other.key == d.key && other.whole() {
			break
		}
		d.out.id = uint16(rules.RandomInt(1 << 16))
	}
	t.taken[d.out] = d
}

// accept takes a part of a datagram into account. False: the fragment goes no further.
// One that has come before is a duplicate. If one overlaps with another, or contradicts
// what is known of the datagram's length, the datagram is refused, because hosts differ
// in what they make of it (RFC 1858, RFC 5722).
func (q *fragmentQueue) accept(d *datagram, s packet.FragmentPart) bool {
	if d.refused {
		return false
	}
	i, found := slices.BinarySearchFunc(d.parts, s.From, func(p packet.FragmentPart, from int) int { return p.From - from })
	if found && d.parts[i] == s {
		return false
	}
	overlaps := i > 0 && d.parts[i-1].To > s.From || i < len(d.parts) && d.parts[i].From < s.To
	contradicts := s.Last && (d.end != 0 || i < len(d.parts)) || d.end != 0 && s.To > d.end
	if overlaps || contradicts || len(d.parts) >= maxParts {
		q.refuse(d)
		return false
	}
	d.parts = slices.Insert(d.parts, i, s)
	d.length += s.To - s.From
	if s.Last {
		d.end = s.To
	}
	return true
}

// whole tells whether all parts have come.
func (d *datagram) whole() bool { return d.end != 0 && d.length == d.end }

// hold keeps a fragment until the first of its datagram comes.
func (t *fragmentTable) hold(q *fragmentQueue, d *datagram, f *packet.Frame) {
	d.waiting = append(d.waiting, packet.Frame{Data: slices.Clone(f.Data)})
	q.Held += len(f.Data) + heldOverhead
	for q.Held > MaxHeldBytes {
		t.forget(q, q.Headless.oldest())
	}
}

// release takes from a datagram the fragments that wait.
func (q *fragmentQueue) release(d *datagram) {
	for _, f := range d.waiting {
		q.Held -= len(f.Data) + heldOverhead
	}
	d.waiting = nil
}

// refuse drops the fragments of a datagram that wait, and those that come.
func (q *fragmentQueue) refuse(d *datagram) {
	d.in.Drops[packet.DropFragment].Add(uint64(len(d.waiting)))
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

// sweep forgets datagrams that came too long ago, and ifaces without any.
func (t *fragmentTable) sweep(now int64) {
	t.Mu.Lock()
	defer t.Mu.Unlock()
	for p, q := range t.Ports {
		left := 0
		for _, l := range []*datagramList{&q.Headless, &q.Led, &q.Over} {
			for d := l.oldest(); d != nil && now-d.came >= int64(FragmentTime); d = l.oldest() {
				t.forget(q, d)
			}
			left += l.Len()
		}
		if left == 0 {
			delete(t.Ports, p)
		}
	}
}
