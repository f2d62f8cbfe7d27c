//go:build race

package lockorder

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Mutex is an RWMutex that a normal build does not let anybody lock for reading.
type Mutex[L Lock] = RWMutex[L]

// RWMutex is a sync.RWMutex of a kind that checks the order, and that no goroutine takes
// it for reading twice: a writer that waits in between would stop both.
type RWMutex[L Lock] struct {
	mu     sync.RWMutex
	holder *holder // that holds it for writing
}

// Lock locks m for writing. It panics if this goroutine holds a lock that does not come
// earlier.
func (m *RWMutex[L]) Lock() {
	h := take(placeOf[L]())
	m.mu.Lock()
	m.holder = h
}

// Unlock unlocks m for writing.
func (m *RWMutex[L]) Unlock() {
	h := m.holder
	m.mu.Unlock()
	giveBack(h, placeOf[L]())
}

// RLock locks m for reading. It panics if this goroutine holds a lock that does not come
// earlier.
func (m *RWMutex[L]) RLock() {
	take(placeOf[L]())
	m.mu.RLock()
}

// RUnlock unlocks m for reading. It panics if this goroutine did not lock m.
func (m *RWMutex[L]) RUnlock() {
	m.mu.RUnlock()
	giveBack(nil, placeOf[L]())
}

// placeOf returns the place of a kind.
func placeOf[L Lock]() *place {
	var lock L
	return lock.place()
}

// holder is a goroutine that holds locks. Its fields are atomic, because it belongs to
// another goroutine later, and the race detector does not see when (unseen).
type holder struct {
	goroutine atomic.Uint64 // what goroutineNumber returns; 0: the holder is free
	locks     [levelLog]atomic.Pointer[place]
}

// A goroutine's holder is one of the searched holders from a place on that follows from the
// goroutine's number.
const searched = 32

var holders [1 << 12]holder

// take notes that this goroutine takes a lock, and panics if the order forbids it.
func take(p *place) (h *holder) {
	var wrong *place
	unseen(func() {
		h = holderOfThisGoroutine()
		wrong = h.add(p)
	})
	if wrong != nil {
		panic(fmt.Sprintf("lockorder: a goroutine takes %s while it holds %s", p.name, wrong.name))
	}
	return h
}

// giveBack notes that a holder, or this goroutine if it is nil, no longer holds a lock.
func giveBack(h *holder, p *place) {
	held := false
	unseen(func() {
		if h == nil {
			h = holderOfThisGoroutine()
		}
		held = h.remove(p)
	})
	if !held {
		panic("lockorder: a goroutine unlocks " + p.name + ", which it does not hold")
	}
}

// unseen calls a function whose synchronization the race detector does not see. Otherwise
// every lock would synchronize all goroutines that take one, and hide races of theirs.
func unseen(do func()) {
	runtime.RaceDisable()
	defer runtime.RaceEnable()
	do()
}

// add adds a lock. If the goroutine must not take it now, add returns the held lock that
// forbids it instead.
func (h *holder) add(p *place) (wrong *place) {
	for i := range h.locks {
		if other := h.locks[i].Load(); other != nil && other.level >= p.level {
			h.freeIfIdle()
			return other
		}
	}
	h.locks[p.level-1].Store(p)
	return nil
}

// remove removes a lock, and tells whether the goroutine held it.
func (h *holder) remove(p *place) (held bool) {
	held = h.locks[p.level-1].CompareAndSwap(p, nil)
	h.freeIfIdle()
	return held
}

// freeIfIdle frees the holder for another goroutine, if it holds no lock.
func (h *holder) freeIfIdle() {
	for i := range h.locks {
		if h.locks[i].Load() != nil {
			return
		}
	}
	h.goroutine.Store(0)
}

// holderOfThisGoroutine finds the holder of this goroutine, or takes a free one.
func holderOfThisGoroutine() *holder {
	number := goroutineNumber()
	first := number * 0x9e3779b97f4a7c15 >> 32 // numbers may be multiples of a power of two
	at := func(i uint64) *holder { return &holders[(first+i)%uint64(len(holders))] }
	for i := range uint64(searched) {
		if h := at(i); h.goroutine.Load() == number {
			return h
		}
	}
	for i := range uint64(searched) {
		if h := at(i); h.goroutine.CompareAndSwap(0, number) {
			return h
		}
	}
	panic("lockorder: too many goroutines hold locks at once")
}
