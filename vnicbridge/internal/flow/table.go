package flow

import (
	"iter"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// FlowBytes is what one flow takes of memory, at most: its record and the counts of its
// answers, its share of the records that are kept beyond max_flows, of the buckets of
// keys, and of the list of free records. The kernel data path sets aside the memory of
// max_flows flows at its start. The userspace data path takes it as flows come. A test
// holds this number to the truth.
const FlowBytes = 162

// Table holds the living flows, bounded. A flow is found by two keys, which are
// claimed together, so that no two flows ever share a reply tuple. Both data paths use
// it: its memory is the programs' maps, or this process's own.
//
// A flow that is over, but that a server may remember, is superseded: its record
// stays for as long, out of the count, and keeps its reply key from other clients
// (A5). In a flood there are too few records for that: then the table puts the reply
// keys in quarantine.
type Table struct {
	TableMemory
	ifaces [iface.Max]atomic.Pointer[iface.Iface] // by index, until they are closed: their flows wait for them

	mu   sync.Mutex
	hand int // where the sweep goes on

	survey      survey
	connections []victim             // the next that must go when the table is full
	victims     []cohort             // and then
	over        cohort               // superseded ones that must go when no record is free
	hands       [flowClasses + 1]int // the last record of each that was looked at

	noVictims, noneOver uint32 // when there were none

	quarantine quarantine // of flows that had to make room
	handshakes *Handshakes
	saturation saturation
}

func NewTable(memory TableMemory, limit int, evicted *Handshakes) *Table {
	t := &Table{TableMemory: memory, handshakes: evicted}
	t.SetLimit(limit)
	return t
}

// Know lets flows begin and end at an iface, and forget lets no flow of a closed iface be
// found any more.
func (t *Table) Know(p *iface.Iface)   { t.ifaces[p.Index].Store(p) }
func (t *Table) Forget(p *iface.Iface) { t.ifaces[p.Index].CompareAndSwap(p, nil) }

func (t *Table) PortOf(index uint32) *iface.Iface {
	if index >= iface.Max {
		return nil
	}
	return t.ifaces[index].Load()
}

// Gauges are where the table counts the flows of an iface.
func (t *Table) Gauges(p *iface.Iface) *iface.Gauges { return &t.Meters[p.Index] }

// Fits tells whether there is room for a number of flows.
func (t *Table) Fits(maxFlows int) bool { return RecordsFor(maxFlows) <= len(t.Records) }

// at is the flow of a record, or nil if it has none: one that was superseded is
// over.
func (t *Table) at(number uint32) *Flow {
	if t.superseded(number) {
		return nil
	}
	return t.flowOf(number)
}

// flowOf is the flow that a record is of, also if it was superseded.
func (t *Table) flowOf(number uint32) *Flow {
	orig, reply, in, out, ok := t.read(number)
	if !ok {
		return nil
	}
	return &Flow{
		In: in, Out: out, Orig: tupleFrom(orig.key()), Reply: tupleFrom(reply.key()), table: t, Number: number,
		State: stateOfRecord(&t.Records[number]), Sent: t.sentOf(number),
	}
}

// read returns what a record says of its flow that never changes. A program may reuse the
// record meanwhile. The keys belong to one flow if orig has not changed around reply (find
// in bpf/flow.h). A goroutine may be interrupted between the halves of a key for as long
// as the record takes to come back to its first flow, so reply is loaded twice.
func (t *Table) read(number uint32) (orig, reply keyWords, in, out *iface.Iface, ok bool) {
	r := &t.Records[number]
	orig, reply = load(&r.Orig), load(&r.Reply)
	in, out = t.PortOf(uint32(orig.key().Iface)), t.PortOf(uint32(reply.key().Iface))
	if in == nil || out == nil || load(&r.Orig) != orig || load(&r.Reply) != reply {
		return orig, reply, nil, nil, false
	}
	return orig, reply, in, out, true
}

func (t *Table) sentOf(number uint32) [2]*Traffic {
	return [2]*Traffic{(*Traffic)(unsafe.Pointer(&t.Records[number].Sent)), &t.Answers[number]}
}

// Lookup finds the flow of a key and the direction that the key is of.
func (t *Table) Lookup(key Key) (*Flow, Direction) {
	var f Flow
	dir, ok := t.Find(&key.Tuple, key.Iface, &f)
	if !ok {
		return nil, Forward
	}
	return new(f), dir
}

// Find is lookup for each packet: it makes f the flow of a packet with a tuple that comes
// in at an iface, and takes no memory.
func (t *Table) Find(packet *packet.Tuple, iface uint32, f *Flow) (dir Direction, ok bool) {
	k := keyAt(packet, iface)
	v := t.value(&k)
	number := v &^ bpf.Reverse
	if v == notFound || t.superseded(number) {
		return Forward, false
	}
	orig, reply, in, out, ok := t.read(number)
	switch {
	case !ok:
		return Forward, false
	case v&bpf.Reverse == 0 && *orig.key() == k:
		f.Orig, f.Reply = *packet, tupleFrom(reply.key())
	case v&bpf.Reverse != 0 && *reply.key() == k:
		dir, f.Orig, f.Reply = Reverse, tupleFrom(orig.key()), *packet
	default:
		return Forward, false
	}
	f.In, f.Out, f.table, f.Number = in, out, t, number
	f.State, f.Sent = stateOfRecord(&t.Records[number]), t.sentOf(number)
	return dir, true
}

// claims is how many free tuples may be lost to the programs before a flow is
// refused.
const claims = 16

// Insert adds a flow under the first of the candidate reply tuples that is free. Another
// flow that was inserted for the same original tuple meanwhile is returned instead.
func (t *Table) Insert(f *Flow, candidates iter.Seq[packet.Tuple]) (*Flow, packet.DropReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig, _ := f.Keys()
	if other, dir := t.Lookup(orig); other != nil && dir == Forward {
		return other, packet.Keep
	}
	now := int64(f.LastSeen.Load()) << ClockShift
	number, ok := t.take(now)
	if !ok {
		return nil, packet.DropTableFull
	}
	lost := 0
	for f.Reply = range t.saturation.skip(f, candidates, now) {
		if !t.free(f, now) {
			continue
		}
		if t.claim(f, number) {
			f.In.NewFlows.Add(1)
			f.Out.NewFlows.Add(1)
			if t.saturation.add(f, now) {
				t.keepFromPrograms(anyAlias(f), now)
			}
			return t.at(number), packet.Keep
		}
		// A program has opened the same flow, or given the tuple to another one, or
		// the buckets are full.
		if other, _ := t.Lookup(orig); other != nil {
			break
		}
		if lost++; lost == claims {
			break
		}
	}
	t.giveBack(number)
	t.Counts.Flows.Add(-1)
	if other, _ := t.Lookup(orig); other != nil {
		return other, packet.Keep
	}
	return nil, packet.DropNoTuple
}

// free tells whether a flow's reply key can be claimed, by its client.
func (t *Table) free(f *Flow, now int64) bool {
	_, reply := f.Keys()
	if t.quarantine.holds(reply, f.Orig.Src, now) {
		return false
	}
	k := KeyOf(reply)
	v := t.value(&k)
	if v == notFound {
		return true
	}
	number := v &^ bpf.Reverse
	r := &t.Records[number]
	mayGo := t.superseded(number) && (r.Orig.Src == packet.BE32(f.Orig.Src) || expired(r, now))
	if mayGo {
		t.Discard(number)
	}
	return mayGo
}

func (t *Table) superseded(number uint32) bool {
	return stateOfRecord(&t.Records[number]).Flags.Load()&Superseded != 0
}

// claim writes a flow into a record and makes both keys lead to it, the reply key
// first: only it can be another client's.
func (t *Table) claim(f *Flow, number uint32) bool {
	origKey, replyKey := f.Keys()
	orig, reply := KeyOf(origKey), KeyOf(replyKey)
	t.Write(number, orig, reply, f)
	if !t.KeyTable.point(&reply, number|bpf.Reverse) {
		return false
	}
	// A superseded flow keeps its reply key from other clients, but not from the
	// segment whose tuple that is.
	if v := t.value(&orig); v != notFound && t.superseded(v&^bpf.Reverse) {
		t.Discard(v &^ bpf.Reverse)
	}
	if !t.KeyTable.point(&orig, number) {
		t.unpoint(&reply, number|bpf.Reverse)
		return false
	}
	t.countAtPorts(&orig, &reply, 1, f.Class())
	return true
}

// Write gives a cleared record to a flow. The keys come last, because a record with keys
// is one that the sweep judges.
func (t *Table) Write(number uint32, orig, reply bpf.FlowKey, f *Flow) {
	r := &t.Records[number]
	(&Flow{State: stateOfRecord(r), Sent: t.sentOf(number)}).copyLife(f)
	store(&r.Orig, orig)
	store(&r.Reply, reply)
}

// take takes a place in the table and the number of a free record, making room where
// that gets short. Programs take them at the same time: there are never more flows than
// the limit.
func (t *Table) take(now int64) (number uint32, ok bool) {
	if t.Counts.Flows.Load()+t.room()/2 >= t.Counts.Limit.Load() {
		t.evict(now)
	}
	for t.Counts.Flows.Add(1) > t.Counts.Limit.Load() {
		t.Counts.Flows.Add(-1)
		if !t.evict(now) {
			return 0, false
		}
	}
	for {
		if number, ok = t.unused(); ok {
			return number, true
		}
		if !t.reclaim(now) {
			t.Counts.Flows.Add(-1)
			return 0, false
		}
	}
}

// unused takes the number of a record that has no flow, if there is one.
func (t *Table) unused() (number uint32, ok bool) {
	if number, ok = t.Spare.Take(); ok {
		return number, true
	}
	if t.Counts.Fresh.Load() < uint32(len(t.Records)) {
		if number = t.Counts.Fresh.Add(1) - 1; int(number) < len(t.Records) {
			return number, true
		}
	}
	return 0, false
}

// giveBack frees the number of a record that no key leads to. A program that is
// looking at it now sees that it has changed (find in bpf/flow.h).
func (t *Table) giveBack(number uint32) {
	ClearKeys(&t.Records[number])
	t.Spare.Put(number)
}

// Adopt adds a flow of another table as it is. False: there is no room.
func (t *Table) Adopt(f *Flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	number, ok := t.unused()
	if ok && !t.claim(f, number) {
		t.giveBack(number)
		ok = false
	}
	if ok {
		t.Counts.Flows.Add(1)
	}
	return ok
}

// Remove ends a flow whose ends may go on to remember it. Ending one twice is harmless.
func (t *Table) Remove(f *Flow, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig, reply := f.Keys()
	r := &t.Records[f.Number]
	ownOrig, ownReply := load(&r.Orig), load(&r.Reply)
	if *ownOrig.key() == KeyOf(orig) && *ownReply.key() == KeyOf(reply) && !t.superseded(f.Number) {
		t.end(f.Number, now)
	}
}

// end ends a living flow, which a server may remember.
func (t *Table) end(number uint32, now int64) {
	if r := &t.Records[number]; RememberedBy(config.Protocol(r.Orig.Proto), stateOfRecord(r), now) {
		t.supersede(number)
	} else {
		t.Discard(number)
	}
}

// supersede ends a living flow but for its reply key.
func (t *Table) supersede(number uint32) {
	r := &t.Records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(orig.key(), number)
	before := stateOfRecord(r).Flags.Or(Superseded)
	if before&Superseded == 0 {
		t.discount(orig.key(), reply.key(), classOf(config.Protocol(orig.key().Proto), before))
	}
}

// Discard frees the record of a flow, and its keys. A newer flow may have the
// original one.
func (t *Table) Discard(number uint32) {
	r := &t.Records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(orig.key(), number)
	t.unpoint(reply.key(), number|bpf.Reverse)
	if flags := stateOfRecord(r).Flags.Load(); flags&Superseded == 0 {
		t.discount(orig.key(), reply.key(), classOf(config.Protocol(orig.key().Proto), flags))
	}
	t.giveBack(number)
}

// discount takes a flow of a class out of the counts.
func (t *Table) discount(orig, reply *bpf.FlowKey, class Class) {
	t.Counts.Flows.Add(-1)
	t.countAtPorts(orig, reply, -1, class)
}

func (t *Table) countAtPorts(orig, reply *bpf.FlowKey, n int64, class Class) {
	for _, index := range []uint16{orig.Iface, reply.Iface} {
		t.Meters[index].Flows.Add(n)
		t.Meters[index].Load.Add(n * loadOf(class))
	}
}

// RemoveIf ends all flows that a condition holds for, and returns them.
func (t *Table) RemoveIf(condition func(*Flow) bool) (removed []*Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for number := range t.Used() {
		f := t.at(number)
		if f == nil || !condition(f) {
			continue
		}
		removed = append(removed, f.Alone())
		t.Discard(number)
	}
	return removed
}

// EachPart is how many flows are visited in some 50 µs.
const EachPart = 64

// Each calls a function with every flow; the function must not call the table. The table
// is locked for EachPart flows at most. Then pause is called without the lock. If it
// returns false, that is all.
func (t *Table) Each(visit func(*Flow), pause func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	visited := 0
	for number := range t.Used() {
		if f := t.at(number); f != nil {
			visit(f)
		}
		if visited++; visited%EachPart == 0 && !whileUnlocked(&t.mu, pause) {
			return // its memory may be gone
		}
	}
}

// whileUnlocked calls a function without a lock that is held.
func whileUnlocked(lock sync.Locker, do func() bool) bool {
	lock.Unlock()
	defer lock.Lock()
	return do()
}

// Used yields the numbers of the records that may have a flow.
func (t *Table) Used() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for number := range uint32(t.highest()) {
			if ofFlow(&t.Records[number].Orig) && !yield(number) {
				return
			}
		}
	}
}

// highest is how many records, from the first on, have ever been used.
func (t *Table) highest() int { return min(int(t.Counts.Fresh.Load()), len(t.Records)) }

// Moved tells that a flow came into another phase.
func (t *Table) Moved(f *Flow, before, after Class) {
	if n := loadOf(after) - loadOf(before); n != 0 {
		f.addLoad(n)
	}
}

// SweepsPerIdleTime is how often a sweep goes round within an idle time: a flow
// ends at most an eighth of it late.
const SweepsPerIdleTime = 8

// sweepPace returns how many of a number of flows must be visited for a time that
// has passed, if each is to be visited often enough for its idle time.
func sweepPace(idleTime time.Duration, size int, passed time.Duration) int {
	return min(size, int(int64(size)*int64(passed)/int64(idleTime/SweepsPerIdleTime))+1)
}

// Sweep ends idle flows. It looks at as many as the time that has passed asks for.
func (t *Table) Sweep(now int64, passed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine.sweep(now)
	// One hand for all: it is as fast as the shortest idle time asks for.
	highest := t.highest()
	for range sweepPace(IdleTimes[ClassICMP], highest, passed) {
		if t.hand++; t.hand >= highest {
			t.hand = 0
		}
		t.sweepRecord(uint32(t.hand), now)
	}
}

func (t *Table) sweepRecord(number uint32, now int64) {
	if r := &t.Records[number]; ofFlow(&r.Reply) && expired(r, now) {
		t.Discard(number)
	}
}

// expired tells whether a record's flow has been idle for too long. One that was
// superseded only keeps other clients from its reply key, for as long as a server
// may remember it (A5): not at all, if it never answered.
func expired(r *bpf.FlowRecord, now int64) bool {
	s := stateOfRecord(r)
	flags := s.Flags.Load()
	if flags&Superseded != 0 {
		return flags&Accepted == 0 || s.Idle(now) >= TimeWait
	}
	return s.Idle(now) >= IdleTimes[classOf(config.Protocol(r.Orig.Proto), flags)]
}

// SetLimit bounds the number of flows. Those beyond a lower bound end as others begin.
func (t *Table) SetLimit(flows int) { t.Counts.Limit.Store(int64(flows)) }

func (t *Table) Len() int { return int(t.Counts.Flows.Load()) }
