package vnicbridge

import (
	"iter"
	"sync"
	"time"
)

// flowTable holds the living flows, bounded. Each is found by two keys; both are
// claimed together, so that no two flows ever share a reply tuple.
type flowTable struct {
	mu    sync.RWMutex
	byKey map[flowKey]*flow
	rings [flowClasses]flowRing
	max   int

	quarantine quarantine
}

func newFlowTable(max int) *flowTable {
	return &flowTable{byKey: make(map[flowKey]*flow), max: max}
}

// lookup finds the flow of a key and the direction that the key is of.
func (t *flowTable) lookup(key flowKey) (*flow, direction) {
	t.mu.RLock()
	f := t.byKey[key]
	t.mu.RUnlock()
	if f != nil && (key.port != f.in.index || key.tuple != f.orig) {
		return f, reverse
	}
	return f, forward
}

// insert adds a flow under the first of the candidate reply tuples that is free.
// Another flow that was inserted for the same original tuple meanwhile is
// returned instead.
func (t *flowTable) insert(f *flow, candidates iter.Seq[tuple]) (*flow, dropReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig := flowKey{f.orig, f.in.index}
	if other := t.byKey[orig]; other != nil {
		return other, keep
	}
	now := f.lastSeen.Load()
	if !t.makeRoom(now) {
		return nil, dropTableFull
	}
	for f.reply = range candidates {
		reply := flowKey{f.reply, f.out.index}
		if t.byKey[reply] == nil && !t.quarantine.holds(reply, f.orig.src, now) {
			t.byKey[orig], t.byKey[reply] = f, f
			t.enter(f)
			f.in.flows.Add(1)
			f.out.flows.Add(1)
			f.in.newFlows.Add(1)
			f.out.newFlows.Add(1)
			return f, keep
		}
	}
	return nil, dropNoTuple
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
	t.removeLocked(victim)
	return true
}

// evictionOrder is the classes of flows that may have to go when the table is
// full, those first that are worth the least. Established flows are never evicted
// (L1).
var evictionOrder = [...]flowClass{classHalfOpen, classClosing, classICMP, classUDP}

// spareTime is how long a flow is spared after its last packet, for a flood that
// fills the table with flows of another class: a lost SYN is repeated within it,
// twice (RFC 6298).
const spareTime = 5 * time.Second

// victim chooses the flow to end: an idle one or, in a flood, when all are fresh,
// one of the class that there are most of. What is of another class than the flood
// does not suffer from it (L2).
func (t *flowTable) victim(now int64) *flow {
	most := &t.rings[evictionOrder[0]]
	for _, class := range evictionOrder {
		ring := &t.rings[class]
		if f := ring.idlest(); f != nil && now-f.lastSeen.Load() >= int64(spareTime) {
			return f
		}
		if ring.size > most.size {
			most = ring
		}
	}
	return most.idlest()
}

func (t *flowTable) size() int { return len(t.byKey) / 2 }

func (t *flowTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.size()
}

// setLimit changes the bound. Flows beyond a lower one end as others begin.
func (t *flowTable) setLimit(max int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.max = max
}

// remove ends a flow whose ends may go on to remember it. Ending one twice is
// harmless.
func (t *flowTable) remove(f *flow, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine.add(f, now)
	t.removeLocked(f)
}

func (t *flowTable) removeLocked(f *flow) {
	if f.gone {
		return
	}
	f.gone = true
	orig, reply := f.keys()
	delete(t.byKey, orig)
	delete(t.byKey, reply)
	t.leave(f)
	f.in.flows.Add(-1)
	f.out.flows.Add(-1)
}

// removeIf ends all flows that a condition holds for, and returns them.
func (t *flowTable) removeIf(condition func(*flow) bool) (removed []*flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.byKey {
		if !f.gone && condition(f) {
			t.removeLocked(f)
			removed = append(removed, f)
		}
	}
	return removed
}

// moved puts a flow whose phase changed into the ring of its new phase.
func (t *flowTable) moved(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reclassify(f)
}

func (t *flowTable) reclassify(f *flow) {
	class := flowClass(f.class.Load())
	if f.gone || f.ring == class {
		return
	}
	t.leave(f)
	f.ring = class
	t.enter(f)
}

// enter puts a flow into the ring of its phase, and leave takes it out. A flow is
// a load on its ports for as long as it is not closing.
func (t *flowTable) enter(f *flow) {
	t.rings[f.ring].push(f)
	f.addLoad(1)
}

func (t *flowTable) leave(f *flow) {
	t.rings[f.ring].remove(f)
	f.addLoad(-1)
}

func (f *flow) addLoad(n int64) {
	if f.ring != classClosing {
		f.in.load.Add(n)
		f.out.load.Add(n)
	}
}

// sweep ends idle flows. It visits a part of each ring only, as large as the
// time that has passed asks for, so that a full table costs little at a time.
func (t *flowTable) sweep(now int64, passed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine.sweep(now)
	for class := range t.rings {
		ring := &t.rings[class]
		for n := sweepPace(flowClass(class), ring.size, passed); n > 0 && ring.hand != nil; n-- {
			f := ring.hand
			if f.expired(now) {
				t.removeLocked(f)
			} else {
				ring.hand = f.next
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
		f.prev, f.next = f, f
		r.hand = f
		return
	}
	f.prev, f.next = r.hand.prev, r.hand
	f.prev.next, f.next.prev = f, f
}

// evictionSample is how many flows from the hand on are compared to find an idle
// one: the ring is only roughly in the order of age.
const evictionSample = 8

// idlest returns the flow that was idle for the longest, among a few.
func (r *flowRing) idlest() *flow {
	victim, f := r.hand, r.hand
	for n := min(r.size, evictionSample); n > 0; n-- {
		if f.lastSeen.Load() < victim.lastSeen.Load() {
			victim = f
		}
		f = f.next
	}
	return victim
}

func (r *flowRing) remove(f *flow) {
	r.size--
	if r.size == 0 {
		r.hand = nil
	} else {
		f.prev.next, f.next.prev = f.next, f.prev
		if r.hand == f {
			r.hand = f.next
		}
	}
	f.prev, f.next = nil, nil
}
