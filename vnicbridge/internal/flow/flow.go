package flow

import (
	"sync/atomic"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Key identifies the flow of a packet: the packet's tuple, and the index of the iface at
// which the packet came in.
type Key struct {
	packet.Tuple
	Iface uint32
}

// Flow is one conversation between two ifaces, shared by both directions. Packets that come
// in at In with tuple Orig leave by Out with the reverse of Reply. Packets that come in at
// Out with tuple Reply leave by In with the reverse of Orig.
//
// A Flow is a view of a record: if the record is reused, State and Sent are another flow's.
// Only [New], [AnsweredFlow] and [Flow.Alone] return flows with memory of their own.
type Flow struct {
	In, Out     *iface.Iface
	Orig, Reply packet.Tuple

	// These point into the record, which both data paths change.
	*State
	Sent  [2]*Traffic // by direction
	shift *ShiftWords // of a greeted flow

	table  *Table // that has the record, and whose memory the flow keeps alive; nil: no record
	Number uint32 // of the record in the table
}

// State is the state of a flow: struct flow_state of bpf/types.h, which has the same layout.
type State struct {
	LastSeen atomic.Uint32    // time of the last packet: see Coarse
	Flags    atomic.Uint32    // PickedUp and so on
	Windows  [2]atomic.Uint32 // by direction: the largest TCP window offered << 8 | its scale
}

// Traffic is what one direction of a flow has sent: struct flow_traffic of bpf/types.h,
// which has the same layout.
type Traffic struct {
	Count atomic.Uint64 // packets and bytes: see Total
	Ack   atomic.Uint32 // the last acknowledgment number
	Next  atomic.Uint32 // the sequence number that follows the last byte sent
}

// countShift separates the packets from the bytes in Traffic.Count, so that one addition
// counts both.
const countShift = 40

// Total returns the number of packets, modulo 2²⁴, and of their bytes, modulo 2⁴⁰.
func (t *Traffic) Total() (packets, bytes uint64) {
	n := t.Count.Load()
	return n >> countShift, n & (1<<countShift - 1)
}

// ClockShift gives the resolution of flows' times: 2²⁶ ns, which is 67 ms. So 32 bits last
// for nine years.
const ClockShift = 26

// Coarse converts a time of the plane's clock, in ns, to units of 2²⁶ ns.
func Coarse(now int64) uint32 { return uint32(now >> ClockShift) }

// since returns how long ago a coarse time was.
func since(then uint32, now int64) time.Duration {
	return time.Duration(int32(Coarse(now)-then)) << ClockShift
}

// Idle returns the time since the flow's last packet.
func (s *State) Idle(now int64) time.Duration { return since(s.LastSeen.Load(), now) }

// Alone returns a copy of the flow with memory of its own, which nobody else changes.
func (f *Flow) Alone() *Flow {
	c := alone(f.In, f.Out, f.Orig, f.Reply)
	c.Number = f.Number
	c.copyLife(f)
	return c
}

// alone returns a flow with memory of its own, in one piece.
func alone(in, out *iface.Iface, orig, reply packet.Tuple) *Flow {
	own := new(struct {
		Flow
		state State
		sent  [2]Traffic
		shift ShiftWords
	})
	own.Flow = Flow{
		In: in, Out: out, Orig: orig, Reply: reply,
		State: &own.state, Sent: [2]*Traffic{&own.sent[Forward], &own.sent[Reverse]}, shift: &own.shift,
	}
	return &own.Flow
}

// copyLife copies State and Sent from another flow.
func (f *Flow) copyLife(other *Flow) {
	f.LastSeen.Store(other.LastSeen.Load())
	f.Flags.Store(other.Flags.Load())
	for dir, sent := range other.Sent {
		f.Sent[dir].Count.Store(sent.Count.Load())
		f.Sent[dir].Ack.Store(sent.Ack.Load())
		f.Sent[dir].Next.Store(sent.Next.Load())
		f.Windows[dir].Store(other.Windows[dir].Load())
	}
	if f.Flags.Load()&Greeted != 0 {
		f.shift.store(other.shift.load())
		f.shift.rule().Store(other.shift.rule().Load())
	}
}

// Greet marks the flow, which must be a new one, as greeted. rule is the number of the steer rule
// with names that has chosen its segment; 0: none.
func (f *Flow) Greet(rule uint32) {
	f.Flags.Or(Greeted)
	f.shift.rule().Store(rule)
}

// Rule returns the number of the steer rule with names that has chosen the flow's segment, or 0.
func (f *Flow) Rule() uint32 {
	if f.Flags.Load()&Greeted == 0 {
		return 0
	}
	return f.shift.rule().Load()
}

// Shift returns how the numbers of the connection differ between its ends. ok is false if they
// do not, or if packets of that direction must still wait: see [Flow.SetShift].
func (f *Flow) Shift(dir Direction) (s packet.Shift, ok bool) {
	known := uint32(Shifted)
	if dir == Reverse {
		known |= Answered
	}
	if f.Flags.Load()&known == 0 {
		return s, false
	}
	return f.shift.load(), true
}

// SetShift tells how the numbers of a greeted connection differ between its ends, whose server has
// answered. The client's packets still wait, because they must not overtake what was held of it, until
// Delivered is called.
func (f *Flow) SetShift(s packet.Shift) {
	f.shift.store(s)
	f.Flags.Or(Answered)
}

// Delivered tells that the server has got what was held of the client.
func (f *Flow) Delivered() { f.Flags.Or(Shifted) }

// New returns a flow from in to out whose first packet p is the opener's. If p cannot begin
// a flow, the flow is picked up: it has existed before. The caller sets Reply.
func New(in, out *iface.Iface, p *packet.Packet, now int64) *Flow {
	f := seen(in, out, p.Tuple, now)
	if !p.Begins() {
		f.pickUp(p, Forward)
	}
	return f
}

// AnsweredFlow returns a flow that is picked up by a packet p that answers the opener. The
// opener's packets have the tuple orig. The caller sets Reply.
func AnsweredFlow(in, out *iface.Iface, orig packet.Tuple, p *packet.Packet, now int64) *Flow {
	f := seen(in, out, orig, now)
	f.pickUp(p, Reverse)
	return f
}

// seen returns a flow with memory of its own, of which a packet has come now.
func seen(in, out *iface.Iface, orig packet.Tuple, now int64) *Flow {
	f := alone(in, out, orig, packet.Tuple{})
	f.LastSeen.Store(Coarse(now))
	return f
}

// pickUp marks the flow as one that has existed before, and learns from a packet of
// direction dir.
func (f *Flow) pickUp(p *packet.Packet, dir Direction) {
	f.Flags.Store(PickedUp)
	if p.Proto != config.TCP {
		return
	}
	f.Windows[Forward].Store(packet.MaxWindowScale) // the scales are not known
	f.Windows[Reverse].Store(packet.MaxWindowScale)
	f.Sent[dir].Next.Store(p.Next())
	f.Sent[1-dir].Next.Store(p.Ack()) // the other side has sent what this one acknowledges
}

// Keys returns the keys of both directions.
func (f *Flow) Keys() (orig, reply Key) {
	return Key{f.Orig, f.In.Index}, Key{f.Reply, f.Out.Index}
}

// tupleOf returns the tuple of packets of a direction.
func (f *Flow) tupleOf(dir Direction) *packet.Tuple {
	if dir == Forward {
		return &f.Orig
	}
	return &f.Reply
}

// Class returns the class that the flow is in now.
func (f *Flow) Class() Class { return classOf(f.Orig.Proto, f.Flags.Load()) }

// Observe updates the flow's times, counts and TCP state for a packet. frameLen is the
// length of its frame in bytes. Observe returns the flow's class before and after the
// packet.
func (f *Flow) Observe(p *packet.Packet, dir Direction, frameLen int, now int64) (before, after Class) {
	f.LastSeen.Store(Coarse(now))
	f.Sent[dir].Count.Add(1<<countShift + uint64(frameLen))
	if p.Proto != config.TCP {
		class := f.Class()
		return class, class
	}
	return f.observeTCP(p, dir)
}

// Reopens tells whether a packet opens a new connection with the tuple of this flow's,
// which is over (F4).
func (f *Flow) Reopens(p *packet.Packet) bool {
	return p.Proto == config.TCP && closedForBoth(f.Flags.Load()) && p.Begins()
}

// OtherEnd returns the iface by which packets of a direction leave, and their tuple there.
func (f *Flow) OtherEnd(dir Direction) (*iface.Iface, packet.Tuple) {
	if dir == Forward {
		return f.Out, f.Reply.Reversed()
	}
	return f.In, f.Orig.Reversed()
}

// loadOf returns how much a flow of a class adds to the load of its ifaces, for least_conn.
// A closing flow is no load.
func loadOf(class Class) int64 {
	if class == ClassClosing {
		return 0
	}
	return 1
}

// addLoad adds n to the load of both ifaces.
func (f *Flow) addLoad(n int64) {
	f.In.Gauges().Load.Add(n)
	f.Out.Gauges().Load.Add(n)
}
