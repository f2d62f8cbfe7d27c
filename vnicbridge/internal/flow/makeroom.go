package flow

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// Room is how many flows make room at once, of a table that has 64 times as many: the
// programs open the next flows by themselves then, and only a few of a flood wait
// for userspace. It takes a fraction of a millisecond.
const Room = 128

// surveyPace is how many records are looked at for the next survey when one flow has
// made room.
const surveyPace = 32

func (t *Table) room() int64 { return max(1, min(Room, t.Counts.Limit.Load()/64)) }

// evict ends living flows for others: connections one at a time. False: there are none
// that may go.
func (t *Table) evict(now int64) bool {
	ended := 0
	for range t.room() {
		v, ok := t.nextVictim(now, ended == 0)
		if !ok {
			break
		}
		if f := t.at(v.number); f != nil {
			t.handshakes.add(f)
		}
		t.end(v.number, now)
		if ended++; v.class == ClassEstablished {
			t.survey.flows[v.class].flows-- // which may have been counted already
			break
		}
	}
	t.goOn(now, ended*surveyPace)
	return ended > 0
}

// nextVictim is the next flow that has to go. It is chosen, if need be, at the price
// of a look at all records.
func (t *Table) nextVictim(now int64, needed bool) (v victim, ok bool) {
	for {
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
		if !needed || t.noVictims == Coarse(now) {
			return v, false
		}
		if t.lookAtAll(now); len(t.connections) == 0 && len(t.victims) == 0 {
			t.noVictims = Coarse(now)
		}
	}
}

// reclaim frees the records of superseded flows: there are too many.
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

// keepTuple puts the reply tuple of a record that is to be freed in quarantine, for
// the programs too.
func (t *Table) keepTuple(number uint32, now int64) {
	f := t.flowOf(number)
	if f == nil || !RememberedBy(f.Orig.Proto, f.State, now) {
		return
	}
	t.quarantine.add(f, now)
	_, reply := f.Keys()
	t.keepFromPrograms(reply, now+int64(TimeWait-f.Idle(now)))
}

// keepFromPrograms has the programs give a reply key to nobody until then.
func (t *Table) keepFromPrograms(key Key, then int64) {
	if t.Untils == nil {
		return
	}
	k := KeyOf(key)
	until := Coarse(then) + 1
	slot := &t.Untils[t.place(&k).print>>1&uint32(len(t.Untils)-1)]
	if int32(until-uint32(slot.Load())) > 0 {
		slot.Store(uint64(until))
	}
	if int32(until-t.Counts.Quarantine.Load()) > 0 {
		t.Counts.Quarantine.Store(until)
	}
}

// victim is a flow that may have to go.
type victim struct {
	number   uint32
	lastSeen uint32
	class    Class // or superseded
}

// victimOf reads the flow of a record, if it has one.
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

// idle tells whether a victim is not spared.
func (v victim) idle(now int64) bool {
	return int32(Coarse(now)-v.lastSeen) >= int32(SpareTime>>ClockShift)
}

// idleOnes are those that are not spared.
func idleOnes(victims []victim, now int64) []victim {
	return slices.DeleteFunc(slices.Clone(victims), func(v victim) bool { return !v.idle(now) })
}
