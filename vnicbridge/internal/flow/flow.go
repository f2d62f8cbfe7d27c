package flow

import (
	"sync/atomic"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Key is what a packet is looked up by: its tuple, at the iface by which it
// came in.
type Key struct {
	packet.Tuple
	Iface uint32
}

// Flow is one conversation between two ifaces, shared by both directions: packets
// that come in at `in` with the tuple `orig` leave by `out` as the reverse of
// `reply`; those that come in at `out` with the tuple `reply` leave by `in` as
// the reverse of `orig`.
type Flow struct {
	In, Out     *iface.Iface
	Orig, Reply packet.Tuple

	// What changes while it lives: parts of its record.
	*State
	Sent [2]*Traffic // by direction

	table  *Table // that has its record, and the memory of it; nil: the memory is its own
	Number uint32 // of its record there
}

// State is struct flow_state of bpf/types.h: both data paths keep it.
type State struct {
	LastSeen atomic.Uint32    // of the plane's clock, in units of 2²⁶ ns
	Flags    atomic.Uint32    // PickedUp and so on
	Windows  [2]atomic.Uint32 // by direction: the largest that TCP offered, << 8, and its scale
}

// Traffic is struct flow_traffic of bpf/types.h.
type Traffic struct {
	Count atomic.Uint64 // see total
	Ack   atomic.Uint32 // what was acknowledged last
	Next  atomic.Uint32 // the sequence number that follows what was sent
}

// countShift is where a count of packets begins: a packet and its bytes are counted
// by one addition.
const countShift = 40

// Total is how many packets there were, modulo 2²⁴, with how many bytes, modulo 2⁴⁰.
func (t *Traffic) Total() (packets, bytes uint64) {
	n := t.Count.Load()
	return n >> countShift, n & (1<<countShift - 1)
}

// ClockShift makes the resolution of a flow's times: 2²⁶ ns, which is 67 ms, so that
// 32 bits last for nine years.
const ClockShift = 26

// Coarse is a time of the plane's clock in units of 2²⁶ ns.
func Coarse(now int64) uint32 { return uint32(now >> ClockShift) }

// since is how long a coarse time is past.
func since(then uint32, now int64) time.Duration {
	return time.Duration(int32(Coarse(now)-then)) << ClockShift
}

// Idle is how long no packet has come.
func (s *State) Idle(now int64) time.Duration { return since(s.LastSeen.Load(), now) }

// Alone is a copy of the flow whose memory nobody else has.
func (f *Flow) Alone() *Flow {
	c := *f
	c.table = nil
	c.live()
	c.copyLife(f)
	return &c
}

// live gives a flow memory of its own for what changes while it lives.
func (f *Flow) live() {
	life := new(struct {
		State
		sent [2]Traffic
	})
	f.State, f.Sent = &life.State, [2]*Traffic{&life.sent[Forward], &life.sent[Reverse]}
}

// copyLife makes what changes while a flow lives that of another one.
func (f *Flow) copyLife(other *Flow) {
	f.LastSeen.Store(other.LastSeen.Load())
	f.Flags.Store(other.Flags.Load())
	for dir, sent := range other.Sent {
		f.Sent[dir].Count.Store(sent.Count.Load())
		f.Sent[dir].Ack.Store(sent.Ack.Load())
		f.Sent[dir].Next.Store(sent.Next.Load())
		f.Windows[dir].Store(other.Windows[dir].Load())
	}
}

// New is a flow that begins, or is picked up, with a packet of its opener's.
func New(in, out *iface.Iface, p *packet.Packet, now int64) *Flow {
	f := &Flow{In: in, Out: out, Orig: p.Tuple}
	f.live()
	f.LastSeen.Store(Coarse(now))
	if !p.Begins() {
		f.pickUp(p, Forward)
	}
	return f
}

// AnsweredFlow is a flow that is picked up with a packet that answers its opener, who
// sends with the tuple orig.
func AnsweredFlow(in, out *iface.Iface, orig packet.Tuple, p *packet.Packet, now int64) *Flow {
	f := &Flow{In: in, Out: out, Orig: orig}
	f.live()
	f.LastSeen.Store(Coarse(now))
	f.pickUp(p, Reverse)
	return f
}

// pickUp makes a flow one that was there before we knew of it. The packet with which it
// is found is of the direction dir.
func (f *Flow) pickUp(p *packet.Packet, dir Direction) {
	f.Flags.Store(PickedUp)
	f.Windows[Forward].Store(packet.MaxWindowScale) // the scales are not known
	f.Windows[Reverse].Store(packet.MaxWindowScale)
	f.Sent[dir].Next.Store(p.Next())
	f.Sent[1-dir].Next.Store(p.Ack()) // what has been acknowledged, the other side has sent
}

func (f *Flow) Keys() (orig, reply Key) {
	return Key{f.Orig, f.In.Index}, Key{f.Reply, f.Out.Index}
}

// Class is the phase of life that the flow is in.
func (f *Flow) Class() Class { return classOf(f.Orig.Proto, f.Flags.Load()) }

// Observe takes a packet into account, whose frame has a length in bytes. It returns the
// flow's phases before and after the packet.
func (f *Flow) Observe(p *packet.Packet, dir Direction, frameLen int, now int64) (before, after Class) {
	f.LastSeen.Store(Coarse(now))
	f.Sent[dir].Count.Add(1<<countShift + uint64(frameLen))
	if p.Proto != config.TCP {
		class := f.Class()
		return class, class
	}
	return f.observeTCP(p, dir)
}

// Reopens tells whether a packet is the first of a new connection that reuses
// the tuple of one that is over (F4).
func (f *Flow) Reopens(p *packet.Packet) bool {
	return p.Proto == config.TCP && closedForBoth(f.Flags.Load()) && p.Begins()
}

// OtherEnd returns where a packet of a direction leaves, and with which tuple.
func (f *Flow) OtherEnd(dir Direction) (*iface.Iface, packet.Tuple) {
	if dir == Forward {
		return f.Out, f.Reply.Reversed()
	}
	return f.In, f.Orig.Reversed()
}

// loadOf is what a flow of a class adds to the load of its ifaces, for least_conn: a
// closing one does nothing any more.
func loadOf(class Class) int64 {
	if class == ClassClosing {
		return 0
	}
	return 1
}

// addLoad changes how many open flows the ifaces have.
func (f *Flow) addLoad(n int64) {
	f.In.Gauges().Load.Add(n)
	f.Out.Gauges().Load.Add(n)
}
