package vnicbridge

import (
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// KernelFlowBytes is what one flow takes of the kernel's memory on the kernel data
// path, at most, all of it set aside at the start for max_flows flows: the record and
// what is counted of the answers, their share of the records that are kept beyond
// max_flows, of the buckets of keys, and of the list of free records. A test holds it
// to the truth.
const KernelFlowBytes = 162

// kernelTable is the flow store of the kernel data path: the programs' maps. The
// records are a part of this process's memory, so that to sweep them costs no
// system call.
//
// A flow that is over, but that a server may remember, is superseded: its record
// stays for as long, out of the count, and keeps its reply key from other clients
// (A5). In a flood there are too few records for that: then their reply keys are in
// quarantine, as those of a flowTable are.
type kernelTable struct {
	keyTable
	answers []flowTraffic // to each record's opener
	spare   *ebpf.Map     // the numbers of records that are free again
	meters  []gauges      // by port
	plane   *planeState
	portOf  func(index uint32) *port

	mu   sync.Mutex
	hand int // where the sweep goes on

	survey      survey
	connections []victim             // the next that must go when the table is full
	victims     []cohort             // and then
	over        cohort               // superseded ones that must go when no record is free
	hands       [flowClasses + 1]int // the last record of each that was looked at

	noVictims, noneOver uint32 // when there were none

	quarantine quarantine      // of flows that had to make room
	untils     []atomic.Uint64 // for the programs: until when, by the hash of the reply key
	handshakes *handshakes
	saturation saturation
}

// recordsFor is how many records a table of a size has: an eighth more than flows,
// for those that are superseded.
func recordsFor(maxFlows int) int { return maxFlows + maxFlows/8 + 64 }

// bucketsFor is how many near and far buckets there are, powers of two: on average
// less than half of the far slots are in use when the table is full. The near ones,
// at most 1 MiB, hold what there is on most days.
func bucketsFor(maxFlows int) (near, far int) {
	keys := 2 * recordsFor(maxFlows)
	far = 1 << bits.Len(uint(keys/3))
	return min(far/8, 1<<14), far
}

// at is the flow of a record, or nil if it has none: one that was superseded is
// over.
func (t *kernelTable) at(number uint32) *flow {
	if t.superseded(number) {
		return nil
	}
	return t.flowOf(number)
}

// flowOf is the flow that a record is of, also if it was superseded. A program may reuse
// the record meanwhile. The keys belong to one flow if orig has not changed around reply
// (find in bpf/flow.h). A goroutine may be interrupted between the halves of a key for as
// long as the record takes to come back to its first flow, so reply is loaded twice.
func (t *kernelTable) flowOf(number uint32) *flow {
	r := &t.records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	in, out := t.portOf(uint32(orig.Port)), t.portOf(uint32(reply.Port))
	if in == nil || out == nil || load(&r.Orig) != orig || load(&r.Reply) != reply {
		return nil
	}
	return &flow{
		in: in, out: out, orig: tupleFrom(&orig), reply: tupleFrom(&reply), number: number,
		flowState: stateOfRecord(r), sent: t.sentOf(number),
	}
}

func (t *kernelTable) sentOf(number uint32) [2]*flowTraffic {
	return [2]*flowTraffic{(*flowTraffic)(unsafe.Pointer(&t.records[number].Sent)), &t.answers[number]}
}

func (t *kernelTable) lookup(key flowKey) (*flow, direction) {
	k := keyOf(key)
	v := t.value(&k)
	if v == notFound {
		return nil, forward
	}
	f := t.at(v &^ bpf.Reverse)
	if f == nil {
		return nil, forward
	}
	orig, reply := f.keys()
	switch {
	case v&bpf.Reverse == 0 && orig == key:
		return f, forward
	case v&bpf.Reverse != 0 && reply == key:
		return f, reverse
	}
	return nil, forward
}

// claims is how many free tuples may be lost to the programs before a flow is
// refused.
const claims = 16

func (t *kernelTable) insert(f *flow, candidates iter.Seq[tuple]) (*flow, dropReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig, _ := f.keys()
	if other, dir := t.lookup(orig); other != nil && dir == forward {
		return other, keep
	}
	now := int64(f.lastSeen.Load()) << clockShift
	number, ok := t.take(now)
	if !ok {
		return nil, dropTableFull
	}
	lost := 0
	for f.reply = range t.saturation.skip(f, candidates, now) {
		if !t.free(f, now) {
			continue
		}
		if t.claim(f, number) {
			f.in.newFlows.Add(1)
			f.out.newFlows.Add(1)
			if t.saturation.add(f, now) {
				t.keepFromPrograms(anyAlias(f), now)
			}
			return t.at(number), keep
		}
		// A program has opened the same flow, or given the tuple to another one, or
		// the buckets are full.
		if other, _ := t.lookup(orig); other != nil {
			break
		}
		if lost++; lost == claims {
			break
		}
	}
	t.giveBack(number)
	t.plane.flows.Add(-1)
	if other, _ := t.lookup(orig); other != nil {
		return other, keep
	}
	return nil, dropNoTuple
}

// free tells whether a flow's reply key can be claimed, by its client.
func (t *kernelTable) free(f *flow, now int64) bool {
	_, reply := f.keys()
	if t.quarantine.holds(reply, f.orig.src, now) {
		return false
	}
	k := keyOf(reply)
	v := t.value(&k)
	if v == notFound {
		return true
	}
	number := v &^ bpf.Reverse
	r := &t.records[number]
	mayGo := t.superseded(number) && (r.Orig.Src == be32(f.orig.src) || expired(r, now))
	if mayGo {
		t.discard(number)
	}
	return mayGo
}

func (t *kernelTable) superseded(number uint32) bool {
	return stateOfRecord(&t.records[number]).flags.Load()&flowSuperseded != 0
}

// claim writes a flow into a record and makes both keys lead to it, the reply key
// first: only it can be another client's.
func (t *kernelTable) claim(f *flow, number uint32) bool {
	origKey, replyKey := f.keys()
	orig, reply := keyOf(origKey), keyOf(replyKey)
	t.write(number, orig, reply, f)
	if !t.keyTable.point(&reply, number|bpf.Reverse) {
		return false
	}
	// A superseded flow keeps its reply key from other clients, but not from the
	// segment whose tuple that is.
	if v := t.value(&orig); v != notFound && t.superseded(v&^bpf.Reverse) {
		t.discard(v &^ bpf.Reverse)
	}
	if !t.keyTable.point(&orig, number) {
		t.unpoint(&reply, number|bpf.Reverse)
		return false
	}
	t.countAtPorts(&orig, &reply, 1, f.class())
	return true
}

// write gives a cleared record to a flow. The keys come last, because a record with keys
// is one that the sweep judges.
func (t *kernelTable) write(number uint32, orig, reply bpf.FlowKey, f *flow) {
	r := &t.records[number]
	(&flow{flowState: stateOfRecord(r), sent: t.sentOf(number)}).copyLife(f)
	store(&r.Orig, orig)
	store(&r.Reply, reply)
}

// take takes a place in the table and the number of a free record, making room where
// that gets short. Programs take them at the same time: there are never more flows than
// the limit.
func (t *kernelTable) take(now int64) (number uint32, ok bool) {
	if t.plane.flows.Load()+t.room()/2 >= t.plane.limit.Load() {
		t.evict(now)
	}
	for t.plane.flows.Add(1) > t.plane.limit.Load() {
		t.plane.flows.Add(-1)
		if !t.evict(now) {
			return 0, false
		}
	}
	for {
		if number, ok = t.unused(); ok {
			return number, true
		}
		if !t.reclaim(now) {
			t.plane.flows.Add(-1)
			return 0, false
		}
	}
}

// unused takes the number of a record that has no flow, if there is one.
func (t *kernelTable) unused() (number uint32, ok bool) {
	if t.spare.LookupAndDelete(nil, &number) == nil {
		return number, true
	}
	if t.plane.fresh.Load() < uint32(len(t.records)) {
		if number = t.plane.fresh.Add(1) - 1; int(number) < len(t.records) {
			return number, true
		}
	}
	return 0, false
}

// giveBack frees the number of a record that no key leads to. A program that is
// looking at it now sees that it has changed (find in bpf/flow.h).
func (t *kernelTable) giveBack(number uint32) {
	clearKeys(&t.records[number])
	_ = t.spare.Update(nil, number, ebpf.UpdateAny) // there is room for all numbers
}

func (t *kernelTable) adopt(f *flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	number, ok := t.unused()
	if ok && !t.claim(f, number) {
		t.giveBack(number)
		ok = false
	}
	if ok {
		t.plane.flows.Add(1)
	}
	return ok
}

func (t *kernelTable) remove(f *flow, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig, reply := f.keys()
	r := &t.records[f.number]
	if load(&r.Orig) == keyOf(orig) && load(&r.Reply) == keyOf(reply) && !t.superseded(f.number) {
		t.end(f.number, now)
	}
}

// end ends a living flow, which a server may remember.
func (t *kernelTable) end(number uint32, now int64) {
	if r := &t.records[number]; rememberedBy(Protocol(r.Orig.Proto), stateOfRecord(r), now) {
		t.supersede(number)
	} else {
		t.discard(number)
	}
}

// supersede ends a living flow but for its reply key.
func (t *kernelTable) supersede(number uint32) {
	r := &t.records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(&orig, number)
	before := stateOfRecord(r).flags.Or(flowSuperseded)
	if before&flowSuperseded == 0 {
		t.discount(&orig, &reply, classOf(Protocol(orig.Proto), before))
	}
}

// discard frees the record of a flow, and its keys. A newer flow may have the
// original one.
func (t *kernelTable) discard(number uint32) {
	r := &t.records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(&orig, number)
	t.unpoint(&reply, number|bpf.Reverse)
	if flags := stateOfRecord(r).flags.Load(); flags&flowSuperseded == 0 {
		t.discount(&orig, &reply, classOf(Protocol(orig.Proto), flags))
	}
	t.giveBack(number)
}

// discount takes a flow of a class out of the counts.
func (t *kernelTable) discount(orig, reply *bpf.FlowKey, class flowClass) {
	t.plane.flows.Add(-1)
	t.countAtPorts(orig, reply, -1, class)
}

func (t *kernelTable) countAtPorts(orig, reply *bpf.FlowKey, n int64, class flowClass) {
	for _, index := range []uint16{orig.Port, reply.Port} {
		t.meters[index].flows.Add(n)
		t.meters[index].load.Add(n * loadOf(class))
	}
}

func (t *kernelTable) removeIf(condition func(*flow) bool) (removed []*flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for number := range t.used() {
		f := t.at(number)
		if f == nil || !condition(f) {
			continue
		}
		removed = append(removed, f.alone())
		t.discard(number)
	}
	return removed
}

func (t *kernelTable) each(visit func(*flow), pause func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	visited := 0
	for number := range t.used() {
		if f := t.at(number); f != nil {
			visit(f)
		}
		if visited++; visited%eachPart == 0 && !whileUnlocked(&t.mu, pause) {
			return // its memory may be gone
		}
	}
}

// used yields the numbers of the records that may have a flow.
func (t *kernelTable) used() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for number := range uint32(t.highest()) {
			if ofFlow(&t.records[number].Orig) && !yield(number) {
				return
			}
		}
	}
}

// highest is how many records, from the first on, have ever been used.
func (t *kernelTable) highest() int { return min(int(t.plane.fresh.Load()), len(t.records)) }

func (t *kernelTable) moved(f *flow, before, after flowClass) {
	if n := loadOf(after) - loadOf(before); n != 0 {
		f.addLoad(n)
	}
}

func (t *kernelTable) sweep(now int64, passed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine.sweep(now)
	// One hand for all: it is as fast as the shortest idle time asks for.
	highest := t.highest()
	for range sweepPace(idleTimes[classICMP], highest, passed) {
		if t.hand++; t.hand >= highest {
			t.hand = 0
		}
		t.sweepRecord(uint32(t.hand), now)
	}
}

func (t *kernelTable) sweepRecord(number uint32, now int64) {
	if r := &t.records[number]; ofFlow(&r.Reply) && expired(r, now) {
		t.discard(number)
	}
}

// expired tells whether a record's flow has been idle for too long. One that was
// superseded only keeps other clients from its reply key, for as long as a server
// may remember it (A5): not at all, if it never answered.
func expired(r *bpf.FlowRecord, now int64) bool {
	s := stateOfRecord(r)
	flags := s.flags.Load()
	if flags&flowSuperseded != 0 {
		return flags&flowAccepted == 0 || s.idle(now) >= timeWait
	}
	return s.idle(now) >= idleTimes[classOf(Protocol(r.Orig.Proto), flags)]
}

func (t *kernelTable) setLimit(flows int) { t.plane.limit.Store(int64(flows)) }

func (t *kernelTable) len() int { return int(t.plane.flows.Load()) }
