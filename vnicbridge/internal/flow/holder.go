package flow

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// holder is a flow that has a reply tuple which another flow needs. In a flood a small pool of
// aliases has no tuple left long before the table is full (L2).
type holder struct {
	victim
	reply packet.Tuple // which it has; the zero value: there is no such flow
}

// consider takes note of a record's flow, which has f's reply tuple, if it makes room before the
// one noted so far. notFound stands for a tuple in quarantine, which nobody has. Among the
// candidates of a new flow, which are spread by a hash and by chance, the oldest of the least
// worth is found well enough.
//
// The ports of the pseudo address belong to all segments, so there a flow from a segment takes
// one only of a segment that has more flows by far.
func (t *Table) consider(best *holder, number uint32, f *Flow, now int64) {
	if number == notFound {
		return
	}
	found, ok := victimOf(&t.Records[number], number)
	if !ok || found.class == ClassEstablished {
		return
	}
	if f.In.NIC == nil && !t.crowds(number, f.In) || f.In.NIC != nil && !found.makesRoom(now) {
		return
	}
	if best.reply == (packet.Tuple{}) || found.before(best.victim) {
		*best = holder{found, f.Reply}
	}
}

// makesRoom tells whether a flow that is not an established connection may lose its tuple to a
// new one from the network: what is in use may not.
func (v victim) makesRoom(now int64) bool {
	switch v.class {
	case superseded, ClassHalfOpen, ClassClosing:
		return true
	default:
		return v.idle(now)
	}
}

// crowds tells whether another segment than one has opened the flow of a record, and has more
// than twice as many flows.
func (t *Table) crowds(number uint32, segment *iface.Iface) bool {
	orig := load(&t.Records[number].Orig)
	other := uint32(orig.key().Iface)
	return other != segment.Index && t.Meters[other].Flows.Load() > 2*t.Meters[segment.Index].Flows.Load()
}

// before tells whether a flow makes room before another one: one that is over, then the one
// that was idle for longest.
func (v victim) before(other victim) bool {
	if over := v.class == superseded; over != (other.class == superseded) {
		return over
	}
	return int32(v.lastSeen-other.lastSeen) < 0
}

// takeOver ends a holder and gives its tuple to f. It returns false if there is no holder, or
// if the holder has had a packet meanwhile.
func (t *Table) takeOver(h *holder, f *Flow) bool {
	if h.reply == (packet.Tuple{}) {
		return false
	}
	if found, ok := victimOf(&t.Records[h.number], h.number); !ok || found != h.victim {
		return false
	}
	if living := t.at(h.number); living != nil {
		t.handshakes.add(living)
	}
	t.Discard(h.number)
	f.Reply = h.reply
	return true
}
