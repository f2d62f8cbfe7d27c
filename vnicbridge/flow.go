package vnicbridge

import (
	"sync"
	"sync/atomic"
	"time"
)

// flowKey is what a packet is looked up by: its tuple, at the port by which it
// came in.
type flowKey struct {
	tuple
	port uint32
}

// flow is one conversation between two ports, shared by both directions: packets
// that come in at `in` with the tuple `orig` leave by `out` as the reverse of
// `reply`; those that come in at `out` with the tuple `reply` leave by `in` as
// the reverse of `orig`.
type flow struct {
	in, out     *port
	orig, reply tuple

	lastSeen atomic.Int64 // of the plane's clock, nanoseconds

	class atomic.Uint32 // a flowClass; the ring that the flow is in follows it

	mu  sync.Mutex // guards tcp
	tcp tcpState

	// Guarded by the table's lock.
	ring       flowClass
	prev, next *flow
	gone       bool
}

func (f *flow) keys() (orig, reply flowKey) {
	return flowKey{f.orig, f.in.index}, flowKey{f.reply, f.out.index}
}

// observe takes a packet into account. It tells whether the flow's phase
// changed.
func (f *flow) observe(p *packet, dir direction, now int64) (changed bool) {
	f.lastSeen.Store(now)
	if p.proto != TCP {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	class := uint32(f.tcp.observe(dir, p))
	return f.class.Swap(class) != class
}

// reopens tells whether a packet is the first of a new connection that reuses
// the tuple of one that is closing (F4).
func (f *flow) reopens(p *packet) bool {
	return p.proto == TCP && flowClass(f.class.Load()) == classClosing && p.begins()
}

func (f *flow) expired(now int64) bool {
	return now-f.lastSeen.Load() >= int64(idleTimes[flowClass(f.class.Load())])
}

// otherEnd returns where a packet of a direction leaves, and with which tuple.
func (f *flow) otherEnd(dir direction) (*port, tuple) {
	if dir == forward {
		return f.out, f.reply.reversed()
	}
	return f.in, f.orig.reversed()
}

// initialClass is the phase in which the flow of a first packet begins.
func initialClass(proto Protocol) flowClass {
	switch proto {
	case TCP:
		return classHalfOpen
	case UDP:
		return classUDP
	default:
		return classICMP
	}
}

// FlowBytes is about what one flow takes of the heap: the record, and a key and a
// pointer for each direction in the table's map at its usual load. A test holds it
// to the truth. With the headroom that Go's collector keeps, the process needs up
// to twice as much: max_flows × 800 bytes at the most.
const FlowBytes = 400

// sweepsPerIdleTime is how often the hand goes round a ring within its idle
// time: a flow ends at most an eighth of it late.
const sweepsPerIdleTime = 8

// sweepPace returns how many flows of a ring the hand must visit for a time that
// has passed.
func sweepPace(class flowClass, size int, passed time.Duration) int {
	round := idleTimes[class] / sweepsPerIdleTime
	return min(size, int(int64(size)*int64(passed)/int64(round))+1)
}
