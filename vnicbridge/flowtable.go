package vnicbridge

import (
	"encoding/binary"
	"iter"
	"sync"
	"time"
)

// flowTable is the flow store of the userspace data path.
type flowTable struct {
	mu    sync.RWMutex
	byKey map[flowKey]*flow
	rings [flowClasses]flowRing
	max   int

	crowd    []*flow // idle established flows that may have to go
	searched uint32  // when they were last looked for

	quarantine quarantine
	saturation saturation
	handshakes *handshakes
}

// FlowBytes is about what one flow takes of the heap on the userspace data path:
// the record, and a key and a pointer for each direction in the table's map at its
// usual load. A test holds it to the truth. With the headroom that Go's collector
// keeps, the process needs up to twice as much.
const FlowBytes = 384

// flowPlace is where a flow is in a flowTable, whose lock guards it.
type flowPlace struct {
	ring       flowClass
	prev, next *flow
	gone       bool
}

func newFlowTable(max int, evicted *handshakes) *flowTable {
	return &flowTable{byKey: make(map[flowKey]*flow), max: max, handshakes: evicted}
}

func (t *flowTable) lookup(key flowKey) (*flow, direction) {
	t.mu.RLock()
	f := t.byKey[key]
	t.mu.RUnlock()
	if f != nil && (key.port != f.in.index || key.tuple != f.orig) {
		return f, reverse
	}
	return f, forward
}

func (t *flowTable) insert(f *flow, candidates iter.Seq[tuple]) (*flow, dropReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig := flowKey{f.orig, f.in.index}
	if other := t.byKey[orig]; other != nil {
		return other, keep
	}
	now := int64(f.lastSeen.Load()) << clockShift
	if !t.makeRoom(now) {
		return nil, dropTableFull
	}
	for f.reply = range t.saturation.skip(f, candidates, now) {
		reply := flowKey{f.reply, f.out.index}
		if t.byKey[reply] == nil && !t.quarantine.holds(reply, f.orig.src, now) {
			t.add(f)
			t.saturation.add(f, now)
			f.in.newFlows.Add(1)
			f.out.newFlows.Add(1)
			return f, keep
		}
	}
	return nil, dropNoTuple
}

func (t *flowTable) adopt(f *flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.size() >= t.max {
		return false
	}
	t.add(f.alone())
	return true
}

func (t *flowTable) add(f *flow) {
	orig, reply := f.keys()
	t.byKey[orig], t.byKey[reply] = f, f
	f.place = flowPlace{ring: f.class()}
	t.rings[f.place.ring].push(f)
	f.count(1, f.place.ring)
}

// makeRoom ends a flow if the table is full, and tells whether there is room now.
func (t *flowTable) makeRoom(now int64) bool {
	if t.size() < t.max {
		return true
	}
	victim := t.victim(now)
	if victim == nil {
		return false
	}
	t.quarantine.add(victim, now)
	t.handshakes.add(victim)
	t.removeLocked(victim)
	return true
}

// victim chooses the flow to end: see evictionOrder and establishedShare.
func (t *flowTable) victim(now int64) *flow {
	if f := t.idleConnection(now); f != nil {
		return f
	}
	most := &t.rings[evictionOrder[0]]
	for _, class := range evictionOrder {
		ring := &t.rings[class]
		if f := ring.idlest(now); f != nil && f.idle(now) >= spareTime {
			return f
		}
		if ring.size > most.size {
			most = ring
		}
	}
	return most.idlest(now)
}

// idleConnection returns an idle established flow, of a client that has many, if they
// take more than their share.
func (t *flowTable) idleConnection(now int64) *flow {
	beyond := excess(t.rings[classEstablished].size, t.max)
	if beyond == 0 {
		return nil
	}
	if f := t.popCrowd(now); f != nil || t.searched == coarse(now) {
		return f
	}
	t.chooseCrowd(beyond)
	f := t.popCrowd(now)
	if f == nil {
		t.searched = coarse(now) // in vain: not again at this time
	}
	return f
}

// chooseCrowd chooses several at once, among a sample.
func (t *flowTable) chooseCrowd(beyond int) {
	f := t.rings[classEstablished].hand
	for range min(t.rings[classEstablished].size, crowdSample) {
		t.crowd = append(t.crowd, f)
		f = f.place.next
	}
	byCrowding(t.crowd, func(f *flow) uint32 { return binary.BigEndian.Uint32(f.orig.src.v4()) },
		func(f *flow) uint32 { return f.lastSeen.Load() })
	t.crowd = t.crowd[:min(1+len(t.crowd)/64, beyond)]
}

func (t *flowTable) popCrowd(now int64) *flow {
	for len(t.crowd) > 0 {
		f := t.crowd[0]
		t.crowd = t.crowd[1:]
		if !f.place.gone && f.place.ring == classEstablished && f.idle(now) >= spareTime {
			return f
		}
	}
	return nil
}

func (t *flowTable) size() int { return len(t.byKey) / 2 }

func (t *flowTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.size()
}

func (t *flowTable) setLimit(max int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.max = max
}

func (t *flowTable) remove(f *flow, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine.add(f, now)
	t.removeLocked(f)
}

func (t *flowTable) removeLocked(f *flow) {
	if f.place.gone {
		return
	}
	f.place.gone = true
	orig, reply := f.keys()
	delete(t.byKey, orig)
	delete(t.byKey, reply)
	t.rings[f.place.ring].remove(f)
	f.count(-1, f.place.ring)
}

func (t *flowTable) removeIf(condition func(*flow) bool) (removed []*flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.byKey {
		if !f.place.gone && condition(f) {
			t.removeLocked(f)
			removed = append(removed, f)
		}
	}
	return removed
}

// A range over a map bears that others change the map between its steps.
func (t *flowTable) each(visit func(*flow), pause func() bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	visited := 0
	for key, f := range t.byKey {
		if orig, _ := f.keys(); key == orig {
			visit(f)
		}
		if visited++; visited%eachPart == 0 && !whileUnlocked(t.mu.RLocker(), pause) {
			return
		}
	}
}

// whileUnlocked calls a function without a lock that is held.
func whileUnlocked(lock sync.Locker, do func() bool) bool {
	lock.Unlock()
	defer lock.Lock()
	return do()
}

// moved puts a flow whose phase changed into the ring of its new phase, unless
// somebody did meanwhile.
func (t *flowTable) moved(f *flow, _, _ flowClass) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, to := f.place.ring, f.class()
	if f.place.gone || from == to {
		return
	}
	t.rings[from].remove(f)
	f.place.ring = to
	t.rings[to].push(f)
	f.addLoad(loadOf(to) - loadOf(from))
}

// sweep visits a part of each ring only, so that a full table costs little at a
// time.
func (t *flowTable) sweep(now int64, passed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine.sweep(now)
	for class := range t.rings {
		ring := &t.rings[class]
		for n := sweepPace(idleTimes[class], ring.size, passed); n > 0 && ring.hand != nil; n-- {
			f := ring.hand
			if f.expired(now) {
				t.removeLocked(f)
			} else {
				ring.hand = f.place.next
			}
		}
	}
}

// flowRing is a circular list of the flows of one class. New ones are put just
// behind the hand, so that the hand meets the oldest first.
type flowRing struct {
	hand *flow
	size int
}

func (r *flowRing) push(f *flow) {
	r.size++
	if r.hand == nil {
		f.place.prev, f.place.next = f, f
		r.hand = f
		return
	}
	next, prev := r.hand, r.hand.place.prev
	f.place.prev, f.place.next = prev, next
	prev.place.next, next.place.prev = f, f
}

// evictionSample is how many flows from the hand on are compared to find an idle
// one: the ring is only roughly in the order of age.
const evictionSample = 8

// idlest returns the flow that was idle for the longest, among a few.
func (r *flowRing) idlest(now int64) *flow {
	victim, f := r.hand, r.hand
	for n := min(r.size, evictionSample); n > 0; n-- {
		if f.idle(now) > victim.idle(now) {
			victim = f
		}
		f = f.place.next
	}
	return victim
}

func (r *flowRing) remove(f *flow) {
	r.size--
	if r.size == 0 {
		r.hand = nil
	} else {
		prev, next := f.place.prev, f.place.next
		prev.place.next, next.place.prev = next, prev
		if r.hand == f {
			r.hand = next
		}
	}
	f.place.prev, f.place.next = nil, nil
}
