package vnicbridge

import (
	"cmp"
	"maps"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
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
			if t.chooseSuperseded(now); len(t.over) == 0 {
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

// candidates are the flows that were looked at to choose victims.
type candidates struct {
	living [flowClasses][]victim
	over   []victim // superseded ones
	idle   int      // of those that go first: half-open ones that are not spared
}

func (c *candidates) idleHalfOpen() int { return c.idle }

func (c *candidates) superseded() int { return len(c.over) }

func (c *candidates) clear() {
	for class := range c.living {
		c.living[class] = c.living[class][:0]
	}
	c.over, c.idle = c.over[:0], 0
}

func (c *candidates) add(r *bpf.FlowRecord, number uint32, now int64) {
	if r.Reply.Port == 0 {
		return
	}
	s := stateOfRecord(r)
	flags := s.flags.Load()
	v := victim{number, s.lastSeen.Load(), classOf(Protocol(r.Orig.Proto), flags)}
	if flags&flowSuperseded != 0 {
		c.over = append(c.over, v)
		return
	}
	c.living[v.class] = append(c.living[v.class], v)
	if v.class == evictionOrder[0] && v.idle(now) {
		c.idle++
	}
}

// lookAhead is how many records are looked at before it is asked whether enough has
// been found: in a flood there is, and the new flows that wait for room do not wait
// for a look at a whole table. batch is how many are enough.
const lookAhead, batch = 4096, 256

// look looks at records until found says that there are enough, or at all; and says
// at how many. Of flows as old as each other, those go first that come after the last
// that went: records are given to new flows in that order.
func (t *kernelTable) look(now int64, found func(*candidates) int) (c *candidates, looked int) {
	c = &t.seen
	c.clear()
	for highest := t.highest(); looked < highest && (looked%lookAhead != 0 || found(c) < batch); looked++ {
		number := (uint32(looked) + t.evicted + 1) % uint32(highest)
		c.add(&t.records[number], number, now)
	}
	return c, looked
}

// chooseVictims finds flows that are to go, the first one first, by the rule of
// evictionOrder: many at once, for the next new flows too.
func (t *kernelTable) chooseVictims(now int64) {
	if t.noVictims == coarse(now) {
		return
	}
	c, looked := t.look(now, (*candidates).idleHalfOpen)
	established := len(c.living[classEstablished]) * t.highest() / max(looked, 1)
	if t.victims = t.idleConnections(c.living[classEstablished], established, now); len(t.victims) == 0 {
		t.victims = t.oldest(chooseClass(&c.living, now))
	}
	if len(t.victims) == 0 {
		t.noVictims = coarse(now)
	}
}

// chooseSuperseded finds superseded flows whose records are needed.
func (t *kernelTable) chooseSuperseded(now int64) {
	if t.noneOver == coarse(now) {
		return
	}
	c, _ := t.look(now, (*candidates).superseded)
	if t.over = t.oldest(c.over); len(t.over) == 0 {
		t.noneOver = coarse(now)
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

// idle tells whether a victim is not spared.
func (v victim) idle(now int64) bool {
	return int32(coarse(now)-v.lastSeen) >= int32(spareTime>>clockShift)
}

// idleOnes are those that are not spared.
func idleOnes(victims []victim, now int64) []victim {
	return slices.DeleteFunc(slices.Clone(victims), func(v victim) bool { return !v.idle(now) })
}

// idleConnections are established flows that make room when they take more than their
// share, of those that were looked at. all is how many there are.
func (t *kernelTable) idleConnections(established []victim, all int, now int64) []victim {
	beyond := excess(all, int(t.plane.limit.Load()))
	if beyond == 0 || len(established) == 0 {
		return nil
	}
	at := randomInt(len(established))
	established = slices.Concat(established[at:], established[:at])[:min(len(established), crowdSample)]
	byCrowding(established, func(v victim) uint32 { return t.records[v.number].Orig.Src }, func(v victim) uint32 { return v.lastSeen })
	return idleOnes(established[:min(1+len(established)/64, beyond)], now)
}

// oldest is a part of the victims, in the order of their age. There are few ages
// beside the victims: to sort these costs a hundred times as much.
func (t *kernelTable) oldest(victims []victim) (chosen []victim) {
	byAge := make(map[uint32][]victim)
	for _, v := range victims {
		byAge[v.lastSeen] = append(byAge[v.lastSeen], v)
	}
	ages := slices.SortedFunc(maps.Keys(byAge), func(a, b uint32) int { return cmp.Compare(int32(a-b), 0) })
	enough := 1 + max(len(t.records)/64, (len(t.records)-lookAhead)/8) // more where looking takes longer
	for _, age := range ages {
		if chosen = append(chosen, byAge[age]...); len(chosen) >= enough {
			return chosen[:enough]
		}
	}
	return chosen
}
