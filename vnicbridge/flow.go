package vnicbridge

import (
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

	// What changes while it lives: parts of its record.
	*flowState
	sent [2]*flowTraffic // by direction

	table  *flowTable // that has its record, and the memory of it; nil: the memory is its own
	number uint32     // of its record there
}

// flowState is struct flow_state of bpf/types.h: both data paths keep it.
type flowState struct {
	lastSeen atomic.Uint32    // of the plane's clock, in units of 2²⁶ ns
	flags    atomic.Uint32    // flowPickedUp and so on
	windows  [2]atomic.Uint32 // by direction: the largest that TCP offered, << 8, and its scale
}

// flowTraffic is struct flow_traffic of bpf/types.h.
type flowTraffic struct {
	count atomic.Uint64 // see total
	ack   atomic.Uint32 // what was acknowledged last
	next  atomic.Uint32 // the sequence number that follows what was sent
}

// countShift is where a count of packets begins: a packet and its bytes are counted
// by one addition.
const countShift = 40

// total is how many packets there were, modulo 2²⁴, with how many bytes, modulo 2⁴⁰.
func (t *flowTraffic) total() (packets, bytes uint64) {
	n := t.count.Load()
	return n >> countShift, n & (1<<countShift - 1)
}

// clockShift makes the resolution of a flow's times: 2²⁶ ns, which is 67 ms, so that
// 32 bits last for nine years.
const clockShift = 26

// coarse is a time of the plane's clock in units of 2²⁶ ns.
func coarse(now int64) uint32 { return uint32(now >> clockShift) }

// since is how long a coarse time is past.
func since(then uint32, now int64) time.Duration {
	return time.Duration(int32(coarse(now)-then)) << clockShift
}

// idle is how long no packet has come.
func (s *flowState) idle(now int64) time.Duration { return since(s.lastSeen.Load(), now) }

// alone is a copy of the flow whose memory nobody else has.
func (f *flow) alone() *flow {
	c := *f
	c.table = nil
	c.live()
	c.copyLife(f)
	return &c
}

// live gives a flow memory of its own for what changes while it lives.
func (f *flow) live() {
	life := new(struct {
		flowState
		sent [2]flowTraffic
	})
	f.flowState, f.sent = &life.flowState, [2]*flowTraffic{&life.sent[forward], &life.sent[reverse]}
}

// copyLife makes what changes while a flow lives that of another one.
func (f *flow) copyLife(other *flow) {
	f.lastSeen.Store(other.lastSeen.Load())
	f.flags.Store(other.flags.Load())
	for dir, sent := range other.sent {
		f.sent[dir].count.Store(sent.count.Load())
		f.sent[dir].ack.Store(sent.ack.Load())
		f.sent[dir].next.Store(sent.next.Load())
		f.windows[dir].Store(other.windows[dir].Load())
	}
}

// newFlow is a flow that begins, or is picked up, with a packet of its opener's.
func newFlow(in, out *port, p *packet, now int64) *flow {
	f := &flow{in: in, out: out, orig: p.tuple}
	f.live()
	f.lastSeen.Store(coarse(now))
	if !p.begins() {
		f.pickUp(p, forward)
	}
	return f
}

// answeredFlow is a flow that is picked up with a packet that answers its opener, who
// sends with the tuple orig.
func answeredFlow(in, out *port, orig tuple, p *packet, now int64) *flow {
	f := &flow{in: in, out: out, orig: orig}
	f.live()
	f.lastSeen.Store(coarse(now))
	f.pickUp(p, reverse)
	return f
}

// pickUp makes a flow one that was there before we knew of it. The packet with which it
// is found is of the direction dir.
func (f *flow) pickUp(p *packet, dir direction) {
	f.flags.Store(flowPickedUp)
	f.windows[forward].Store(maxWindowScale) // the scales are not known
	f.windows[reverse].Store(maxWindowScale)
	f.sent[dir].next.Store(p.next())
	f.sent[1-dir].next.Store(p.ack()) // what has been acknowledged, the other side has sent
}

func (f *flow) keys() (orig, reply flowKey) {
	return flowKey{f.orig, f.in.index}, flowKey{f.reply, f.out.index}
}

// class is the phase of life that the flow is in.
func (f *flow) class() flowClass { return classOf(f.orig.proto, f.flags.Load()) }

// observe takes a packet into account, whose frame has a length in bytes. It returns the
// flow's phases before and after the packet.
func (f *flow) observe(p *packet, dir direction, frameLen int, now int64) (before, after flowClass) {
	f.lastSeen.Store(coarse(now))
	f.sent[dir].count.Add(1<<countShift + uint64(frameLen))
	if p.proto != TCP {
		class := f.class()
		return class, class
	}
	return f.observeTCP(p, dir)
}

// reopens tells whether a packet is the first of a new connection that reuses
// the tuple of one that is over (F4).
func (f *flow) reopens(p *packet) bool {
	return p.proto == TCP && closedForBoth(f.flags.Load()) && p.begins()
}

// otherEnd returns where a packet of a direction leaves, and with which tuple.
func (f *flow) otherEnd(dir direction) (*port, tuple) {
	if dir == forward {
		return f.out, f.reply.reversed()
	}
	return f.in, f.orig.reversed()
}

// loadOf is what a flow of a class adds to the load of its ports, for least_conn: a
// closing one does nothing any more.
func loadOf(class flowClass) int64 {
	if class == classClosing {
		return 0
	}
	return 1
}

// addLoad changes how many open flows the ports have.
func (f *flow) addLoad(n int64) {
	f.in.gauges().load.Add(n)
	f.out.gauges().load.Add(n)
}
