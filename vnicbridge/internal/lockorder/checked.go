//go:build race

package lockorder

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
)

// Mutex is a sync.Mutex of a kind that checks the order.
type Mutex[L Lock] struct{ mu sync.Mutex }

func (m *Mutex[L]) Lock() {
	take(placeOf[L]())
	m.mu.Lock()
}

func (m *Mutex[L]) Unlock() {
	m.mu.Unlock()
	giveBack(placeOf[L]())
}

// RWMutex is a sync.RWMutex of a kind that checks the order, and that no goroutine takes
// it for reading twice: a writer that waits in between would stop both.
type RWMutex[L Lock] struct{ mu sync.RWMutex }

func (m *RWMutex[L]) Lock() {
	take(placeOf[L]())
	m.mu.Lock()
}

func (m *RWMutex[L]) Unlock() {
	m.mu.Unlock()
	giveBack(placeOf[L]())
}

func (m *RWMutex[L]) RLock() {
	take(placeOf[L]())
	m.mu.RLock()
}

func (m *RWMutex[L]) RUnlock() {
	m.mu.RUnlock()
	giveBack(placeOf[L]())
}

func placeOf[L Lock]() *place {
	var lock L
	return lock.place()
}

// holder is a goroutine that holds locks. Only that goroutine reads or writes its locks.
// All fields are atomic, because the holder belongs to another goroutine later, and the
// race detector does not see when that begins (see unseen).
type holder struct {
	goroutine atomic.Uint64 // its number; 0: the holder is free
	locks     [levelLog]atomic.Pointer[place]
}

// A goroutine's holder is one of the searched holders from its number on. The runtime
// counts goroutines, so the numbers of those that live at once are spread.
const searched = 32

var holders [1 << 12]holder

// take notes that this goroutine takes a lock, and panics if the order forbids it.
func take(p *place) {
	var wrong *place
	unseen(func() { wrong = holderOfThisGoroutine().add(p) })
	if wrong != nil {
		panic(fmt.Sprintf("lockorder: a goroutine takes %s while it holds %s", p.name, wrong.name))
	}
}

// giveBack notes that this goroutine no longer holds a lock.
func giveBack(p *place) {
	held := false
	unseen(func() { held = holderOfThisGoroutine().remove(p) })
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

// add adds a lock, unless that must not be taken now: then it returns the lock because of
// which.
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

func (h *holder) remove(p *place) (held bool) {
	held = h.locks[p.level-1].CompareAndSwap(p, nil)
	h.freeIfIdle()
	return held
}

func (h *holder) freeIfIdle() {
	for i := range h.locks {
		if h.locks[i].Load() != nil {
			return
		}
	}
	h.goroutine.Store(0)
}

func holderOfThisGoroutine() *holder {
	number := goroutineNumber()
	at := func(i uint64) *holder { return &holders[(number+i)%uint64(len(holders))] }
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

// goroutineNumber reads the number of this goroutine from the first line of its stack:
// "goroutine 7 [running]:".
func goroutineNumber() uint64 {
	var buffer [64]byte
	line := buffer[:runtime.Stack(buffer[:], false)]
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("goroutine ")), []byte(" "))
	number, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		panic(fmt.Sprintf("lockorder: the stack begins with %q", line))
	}
	return number
}
