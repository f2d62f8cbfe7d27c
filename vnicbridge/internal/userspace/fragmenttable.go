package userspace

import (
	"container/list"
	"hash/maphash"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// Bounds on the fragmented datagrams of one iface (F7). If one is reached, the oldest
// datagram is evicted. So a flood shortens the time in which fragments must arrive, but
// keeps no datagram out. Each iface has bounds of its own.
const (
	FragmentTime     = 30 * time.Second // how long a datagram is remembered, as in Linux (ipfrag_time)
	IPv6FragmentTime = 60 * time.Second // the same for IPv6 (ip6frag_time)
	MaxHeadless      = 4096             // datagrams whose first fragment is missing
	MaxLed           = 4096             // datagrams whose first fragment has left
	MaxOver          = 8192             // complete datagrams, whose identifications are not reused yet
	MaxHeldBytes     = 4 << 20          // bytes of fragments that wait for the first fragment
	heldOverhead     = 64               // bytes of memory that such a fragment takes in addition
	maxParts         = 512              // fragments of a datagram; beyond it the datagram is refused
	idAttempts       = 64               // how many identifications identify tries
)

// fragmentTable remembers where the first fragment of a datagram went, so that the other
// fragments, which have no ports, follow it. It holds fragments that come before the first.
type fragmentTable struct {
	Mu lockorder.Mutex[lockorder.Fragments]

	seed   maphash.Seed
	Ifaces map[*iface.Iface]*fragmentQueue // by iface
	taken  map[fragmentKey]*datagram       // by their keys where they leave
}

// fragmentQueue holds the datagrams of one iface. Each is in one of the lists.
type fragmentQueue struct {
	datagrams           map[fragmentKey]*datagram // those in Headless and Led
	Headless, Led, Over datagramList
	Held                int // bytes of fragments that wait
}

// datagramList is a list of datagrams, oldest first.
type datagramList struct {
	list.List
	most int
}

// datagram is a datagram of which at least one fragment has come.
type datagram struct {
	key  fragmentKey
	in   *iface.Iface
	list *datagramList // the list that it is in
	elem *list.Element
	came int64 // when it came into the list, in ns

	parts   []packet.FragmentPart // of the fragments that have come, ordered by their bytes
	length  int                   // bytes of all parts
	end     int                   // bytes of the datagram; 0 until its last fragment has come
	refused bool                  // no more fragments of it are sent on

	begun   bool           // the first fragment has come
	first   uint64         // a hash of the first fragment
	flow    *flow.Flow     // nil until the first fragment has left
	dir     flow.Direction // of the datagram in flow
	out     fragmentKey    // the datagram's key where it leaves
	waiting []packet.Frame // for the first fragment
}

// NewFragmentTable returns an empty table.
func NewFragmentTable() *fragmentTable {
	return &fragmentTable{
		seed: maphash.MakeSeed(), Ifaces: make(map[*iface.Iface]*fragmentQueue), taken: make(map[fragmentKey]*datagram),
	}
}

func (t *fragmentTable) queue(p *iface.Iface) *fragmentQueue {
	q := t.Ifaces[p]
	if q == nil {
		q = &fragmentQueue{datagrams: make(map[fragmentKey]*datagram)}
		q.Headless.most, q.Led.most, q.Over.most = MaxHeadless, MaxLed, MaxOver
		t.Ifaces[p] = q
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

// lead records the way of a datagram's first fragment. It returns the datagram, and the
// fragments that have waited. The datagram is nil if the fragment must be dropped, because
// it is a duplicate or overlaps with one that waits.
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
	d.flow, d.dir = new(*fl), dir // a copy, because fl is valid only until the next packet
	t.identify(d)
	waiting := d.waiting
	q.release(d)
	t.move(q, d, &q.Led, a.Now)
	if d.whole() {
		t.finish(q, d, a.Now)
	}
	return d, waiting
}

// refuse records that the first fragment of a datagram was dropped. Otherwise the other
// fragments could follow the first fragment of an older datagram with the same key.
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

// beginsWith returns the datagram to which a first fragment belongs: one whose first
// fragment is missing, or a new one.
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

// finish ends a datagram. The sender may use the datagram's identification again at once.
// Datagrams of other senders may not, until this one is forgotten.
func (t *fragmentTable) finish(q *fragmentQueue, d *datagram, now int64) {
	delete(q.datagrams, d.key)
	d.parts = nil
	t.move(q, d, &q.Over, now)
}

// identify chooses the identification with which a datagram leaves. The datagram keeps its
// own, unless the receiver may still hold fragments of another datagram with the same one
// (RFC 6864 §4.3, §5.3.1, RFC 8200 §4.5).
func (t *fragmentTable) identify(d *datagram) {
	to, tuple := d.flow.OtherEnd(d.dir)
	d.out = fragmentKey{tuple.Src, tuple.Dst, d.key.proto, d.key.id, to.Index}
	for range idAttempts {
		other := t.taken[d.out]
		if other == nil || other.key == d.key && other.whole() {
			break
		}
		d.out.id = randomID(to.Family)
	}
	t.taken[d.out] = d
}

// randomID returns any identification: 16 bits, or 32 in IPv6.
func randomID(f config.Family) uint32 {
	id := uint32(rules.RandomInt(1 << 16))
	if f == config.IPv6 {
		id |= uint32(rules.RandomInt(1<<16)) << 16
	}
	return id
}

// accept adds a part to a datagram. It returns false if the fragment must be dropped, such
// as a duplicate. If the fragment overlaps with another one, or contradicts the datagram's
// known length, accept refuses the whole datagram, because hosts reassemble such datagrams
// in different ways (RFC 1858, RFC 5722).
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

// whole tells whether all fragments have come.
func (d *datagram) whole() bool { return d.end != 0 && d.length == d.end }

// hold keeps a copy of a fragment until the first fragment of its datagram comes.
func (t *fragmentTable) hold(q *fragmentQueue, d *datagram, f *packet.Frame) {
	d.waiting = append(d.waiting, packet.Frame{Data: slices.Clone(f.Data)})
	q.Held += len(f.Data) + heldOverhead
	for q.Held > MaxHeldBytes {
		t.forget(q, q.Headless.oldest())
	}
}

// release removes a datagram's waiting fragments.
func (q *fragmentQueue) release(d *datagram) {
	for _, f := range d.waiting {
		q.Held -= len(f.Data) + heldOverhead
	}
	d.waiting = nil
}

// refuse drops the waiting fragments of a datagram, and those still to come.
func (q *fragmentQueue) refuse(d *datagram) {
	d.in.Drops[packet.DropFragment].Add(uint64(len(d.waiting)))
	q.release(d)
	d.refused, d.parts = true, nil
}

// oldest returns the first datagram of the list, or nil if the list is empty.
func (l *datagramList) oldest() *datagram {
	if e := l.Front(); e != nil {
		return e.Value.(*datagram)
	}
	return nil
}

// move moves a datagram to the end of a list. If the list is full, it evicts the oldest.
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

// fragmentTime returns how long the datagrams of an iface are remembered.
func fragmentTime(p *iface.Iface) time.Duration {
	if p.Family == config.IPv6 {
		return IPv6FragmentTime
	}
	return FragmentTime
}

// sweep forgets datagrams that have been in their list for the fragmentTime of their iface,
// and the queues of ifaces without datagrams.
func (t *fragmentTable) sweep(now int64) {
	t.Mu.Lock()
	defer t.Mu.Unlock()
	for p, q := range t.Ifaces {
		left := 0
		for _, l := range []*datagramList{&q.Headless, &q.Led, &q.Over} {
			for d := l.oldest(); d != nil && now-d.came >= int64(fragmentTime(p)); d = l.oldest() {
				t.forget(q, d)
			}
			left += l.Len()
		}
		if left == 0 {
			delete(t.Ifaces, p)
		}
	}
}
