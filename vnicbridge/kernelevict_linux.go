package vnicbridge

import (
	"cmp"
	"slices"
)

// evict ends a living flow for another one. free tells whether its record can be
// used again, at once: a program that is looking at it now sees that it has changed
// (find in bpf/flow.h).
func (t *kernelTable) evict(now int64) (number uint32, free, ok bool) {
	for {
		if len(t.victims) == 0 {
			if t.chooseVictims(now); len(t.victims) == 0 {
				return 0, false, false
			}
		}
		v := t.victims[0]
		t.victims = t.victims[1:]
		if !t.asChosen(v) || t.superseded(v.number) {
			continue
		}
		if rememberedBy(Protocol(t.records[v.number].Orig.Proto), stateOfRecord(&t.records[v.number]), now) {
			if f := t.at(v.number); f != nil {
				t.quarantine.add(f, now)
				t.handshakes.add(f)
			}
			t.supersede(v.number)
			return 0, false, true
		}
		t.unlink(v.number)
		t.evicted = v.number
		return v.number, true, true
	}
}

// reclaim takes the record of a superseded flow: there are too many.
func (t *kernelTable) reclaim(now int64) (number uint32, ok bool) {
	for {
		if len(t.over) == 0 {
			if t.chooseVictims(now); len(t.over) == 0 {
				return 0, false
			}
		}
		v := t.over[0]
		t.over = t.over[1:]
		if t.asChosen(v) && t.superseded(v.number) {
			t.unlink(v.number)
			return v.number, true
		}
	}
}

// victim is a flow that may have to go.
type victim struct {
	number   uint32
	lastSeen uint32
	class    flowClass
}

// asChosen tells whether a victim has neither lived on nor ended since it was
// chosen.
func (t *kernelTable) asChosen(v victim) bool {
	r := &t.records[v.number]
	s := stateOfRecord(r)
	return r.Reply.Port != 0 && s.lastSeen.Load() == v.lastSeen && classOf(Protocol(r.Orig.Proto), s.flags.Load()) == v.class
}

// chooseVictims finds the flows that are to go, the first one first, by the rule
// of evictionOrder, and superseded ones. It looks at all: so it chooses for the
// next ones too. Of flows as old as each other, those go first that come after the
// last that went: records are given to new flows in that order.
func (t *kernelTable) chooseVictims(now int64) {
	var all [flowClasses][]victim
	var over []victim
	highest := uint32(t.highest())
	if t.barren == coarse(now) {
		return
	}
	for i := range highest {
		number := (t.evicted + 1 + i) % highest
		r := &t.records[number]
		if r.Reply.Port == 0 {
			continue
		}
		s := stateOfRecord(r)
		flags := s.flags.Load()
		class := classOf(Protocol(r.Orig.Proto), flags)
		v := victim{number, s.lastSeen.Load(), class}
		if flags&flowSuperseded != 0 {
			over = append(over, v)
		} else {
			all[class] = append(all[class], v)
		}
	}
	t.over = t.oldest(over)
	if t.victims = t.idleConnections(all[classEstablished], now); len(t.victims) == 0 {
		t.victims = t.oldest(chooseClass(&all, now))
	}
	if len(t.victims)+len(t.over) == 0 {
		t.barren = coarse(now)
	}
}

// chooseClass is the rule of evictionOrder.
func chooseClass(all *[flowClasses][]victim, now int64) []victim {
	chosen := all[evictionOrder[0]]
	for _, class := range evictionOrder {
		if idle := idleOnes(all[class], now); len(idle) > 0 {
			return idle
		}
		if len(all[class]) > len(chosen) {
			chosen = all[class]
		}
	}
	return chosen
}

// idleOnes are those that are not spared.
func idleOnes(victims []victim, now int64) []victim {
	return slices.DeleteFunc(slices.Clone(victims), func(v victim) bool {
		return int32(coarse(now)-v.lastSeen) < int32(spareTime>>clockShift)
	})
}

// idleConnections are established flows that make room when they take more than their
// share.
func (t *kernelTable) idleConnections(established []victim, now int64) []victim {
	beyond := excess(len(established), int(t.plane.limit.Load()))
	if beyond == 0 {
		return nil
	}
	at := randomInt(len(established))
	established = slices.Concat(established[at:], established[:at])[:min(len(established), crowdSample)]
	byCrowding(established, func(v victim) uint32 { return t.records[v.number].Orig.Src }, func(v victim) uint32 { return v.lastSeen })
	return idleOnes(established[:min(1+len(established)/64, beyond)], now)
}

// oldest is a part of the victims, in the order of their age.
func (t *kernelTable) oldest(victims []victim) []victim {
	slices.SortStableFunc(victims, func(a, b victim) int { return cmp.Compare(int32(a.lastSeen-b.lastSeen), 0) })
	return victims[:min(len(victims), 1+len(t.records)/64)]
}
