package flow

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// Room is how many flows are evicted at once, but at most 1/64 of the table. The programs
// then open the next flows without userspace, so only 2–3 % of the new flows of a flood
// need userspace. Evicting them takes a fraction of a millisecond.
const Room = 128

// surveyPace is how many records the next survey scans for each evicted flow.
const surveyPace = 32

// room returns how many flows are evicted at once.
func (t *Table) room() int64 { return max(1, min(Room, t.Counts.Limit.Load()/64)) }

// evict ends living flows so that others can begin: room() of them, but only one
// established flow. It returns false if no flow can be evicted.
func (t *Table) evict(now int64) bool {
	ended := 0
	for range t.room() {
		v, ok := t.nextVictim(now, ended == 0)
		if !ok {
			break
		}
		t.endRemembered(v.number, now)
		if ended++; v.class == ClassEstablished {
			t.survey.flows[v.class].flows-- // the current survey may have counted it
			break
		}
	}
	t.goOn(now, ended*surveyPace)
	return ended > 0
}

// endRemembered ends a living flow, and remembers its handshake, so that a slow client can go on.
func (t *Table) endRemembered(number uint32, now int64) {
	if f := t.at(number); f != nil {
		t.handshakes.add(f)
	}
	t.end(number, now)
}

// nextVictim returns the next flow to evict. If the last survey names no more flows and one
// is needed, nextVictim scans all records, at most once in a tick of the coarse clock.
func (t *Table) nextVictim(now int64, needed bool) (v victim, ok bool) {
	if v, ok = t.nextNamed(); ok || !needed || t.noVictims == Coarse(now) {
		return v, ok
	}
	t.lookAtAll(now)
	if v, ok = t.nextNamed(); !ok {
		t.noVictims = Coarse(now)
	}
	return v, ok
}

// nextNamed returns the next flow that the last survey names.
func (t *Table) nextNamed() (v victim, ok bool) {
	for len(t.connections) > 0 {
		v, t.connections = t.connections[0], t.connections[1:]
		if found, ok := victimOf(&t.Records[v.number], v.number); ok && found == v {
			return v, true
		}
	}
	for len(t.victims) > 0 {
		c := &t.victims[0]
		if number, ok := t.next(c); ok {
			return victim{number: number, class: c.class}, true
		}
		t.victims = t.victims[1:]
	}
	return v, false
}

// reclaim frees records of superseded flows, the oldest first, because no record is free.
// It returns false if there are no such flows.
func (t *Table) reclaim(now int64) (freed bool) {
	for range t.room() {
		number, ok := t.next(&t.over)
		if !ok && !freed && t.noneOver != Coarse(now) {
			if t.lookAtAll(now); t.over.left == 0 {
				t.noneOver = Coarse(now)
			}
			number, ok = t.next(&t.over)
		}
		if !ok {
			break
		}
		t.keepTuple(number, now)
		t.Discard(number)
		freed = true
	}
	return freed
}

// keepTuple puts a record's reply tuple into quarantine, for the programs too, if a server
// may remember it. It is called before the record is freed.
func (t *Table) keepTuple(number uint32, now int64) {
	f := t.flowOf(number)
	if f == nil || !RememberedBy(f.Orig.Proto, f.State, now) {
		return
	}
	t.quarantine.add(f, now)
	_, reply := f.Keys()
	t.keepFromPrograms(reply, now+int64(TimeWait-f.Idle(now)))
}

// keepFromPrograms prevents the programs from using a reply key until a time in ns.
func (t *Table) keepFromPrograms(key Key, then int64) {
	if t.Untils == nil {
		return
	}
	k := t.KeyOf(key)
	until := Coarse(then) + 1
	slot := &t.Untils[t.place(&k).print>>1&uint32(len(t.Untils)-1)]
	if int32(until-uint32(slot.Load())) > 0 {
		slot.Store(uint64(until))
	}
	if int32(until-t.Counts.Quarantine.Load()) > 0 {
		t.Counts.Quarantine.Store(until)
	}
}

// victim is a flow that may be evicted.
type victim struct {
	number   uint32
	lastSeen uint32
	class    Class // or superseded
}

// victimOf reads a record. ok is false if it has no flow.
func victimOf(r *bpf.FlowRecord, number uint32) (v victim, ok bool) {
	if !ofFlow(&r.Reply) {
		return v, false
	}
	s := stateOfRecord(r)
	flags := s.Flags.Load()
	class := superseded
	if flags&Superseded == 0 {
		class = classOf(config.Protocol(r.Orig.Proto), flags)
	}
	return victim{number, s.LastSeen.Load(), class}, true
}

// idle tells whether the flow has had no packet for SpareTime.
func (v victim) idle(now int64) bool {
	return int32(Coarse(now)-v.lastSeen) >= int32(SpareTime>>ClockShift)
}

// idleOnes returns the idle ones of some flows.
func idleOnes(victims []victim, now int64) []victim {
	return slices.DeleteFunc(slices.Clone(victims), func(v victim) bool { return !v.idle(now) })
}
