package vnicbridge

import (
	"iter"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// FlowBytes is what one flow takes of memory, at most: its record and the counts of its
// answers, its share of the records that are kept beyond max_flows, of the buckets of
// keys, and of the list of free records. The kernel data path sets aside the memory of
// max_flows flows at its start. The userspace data path takes it as flows come. A test
// holds this number to the truth.
const FlowBytes = 162

// flowTable holds the living flows, bounded. A flow is found by two keys, which are
// claimed together, so that no two flows ever share a reply tuple. Both data paths use
// it: its memory is the programs' maps, or this process's own.
//
// A flow that is over, but that a server may remember, is superseded: its record
// stays for as long, out of the count, and keeps its reply key from other clients
// (A5). In a flood there are too few records for that: then the table puts the reply
// keys in quarantine.
type flowTable struct {
	tableMemory
	ports [maxPorts]atomic.Pointer[port] // by index, until they are closed: their flows wait for them

	mu   sync.Mutex
	hand int // where the sweep goes on

	survey      survey
	connections []victim             // the next that must go when the table is full
	victims     []cohort             // and then
	over        cohort               // superseded ones that must go when no record is free
	hands       [flowClasses + 1]int // the last record of each that was looked at

	noVictims, noneOver uint32 // when there were none

	quarantine quarantine // of flows that had to make room
	handshakes *handshakes
	saturation saturation
}

func newFlowTable(memory tableMemory, limit int, evicted *handshakes) *flowTable {
	t := &flowTable{tableMemory: memory, handshakes: evicted}
	t.setLimit(limit)
	return t
}

// know lets flows begin and end at a port, and forget lets no flow of a closed port be
// found any more.
func (t *flowTable) know(p *port)   { t.ports[p.index].Store(p) }
func (t *flowTable) forget(p *port) { t.ports[p.index].CompareAndSwap(p, nil) }

func (t *flowTable) portOf(index uint32) *port {
	if index >= maxPorts {
		return nil
	}
	return t.ports[index].Load()
}

// gauges are where the table counts the flows of a port.
func (t *flowTable) gauges(p *port) *gauges { return &t.meters[p.index] }

// fits tells whether there is room for a number of flows.
func (t *flowTable) fits(maxFlows int) bool { return recordsFor(maxFlows) <= len(t.records) }

// at is the flow of a record, or nil if it has none: one that was superseded is
// over.
func (t *flowTable) at(number uint32) *flow {
	if t.superseded(number) {
		return nil
	}
	return t.flowOf(number)
}

// flowOf is the flow that a record is of, also if it was superseded.
func (t *flowTable) flowOf(number uint32) *flow {
	orig, reply, in, out, ok := t.read(number)
	if !ok {
		return nil
	}
	return &flow{
		in: in, out: out, orig: tupleFrom(orig.key()), reply: tupleFrom(reply.key()), table: t, number: number,
		flowState: stateOfRecord(&t.records[number]), sent: t.sentOf(number),
	}
}

// read returns what a record says of its flow that never changes. A program may reuse the
// record meanwhile. The keys belong to one flow if orig has not changed around reply (find
// in bpf/flow.h). A goroutine may be interrupted between the halves of a key for as long
// as the record takes to come back to its first flow, so reply is loaded twice.
func (t *flowTable) read(number uint32) (orig, reply keyWords, in, out *port, ok bool) {
	r := &t.records[number]
	orig, reply = load(&r.Orig), load(&r.Reply)
	in, out = t.portOf(uint32(orig.key().Port)), t.portOf(uint32(reply.key().Port))
	if in == nil || out == nil || load(&r.Orig) != orig || load(&r.Reply) != reply {
		return orig, reply, nil, nil, false
	}
	return orig, reply, in, out, true
}

func (t *flowTable) sentOf(number uint32) [2]*flowTraffic {
	return [2]*flowTraffic{(*flowTraffic)(unsafe.Pointer(&t.records[number].Sent)), &t.answers[number]}
}

// lookup finds the flow of a key and the direction that the key is of.
func (t *flowTable) lookup(key flowKey) (*flow, direction) {
	var f flow
	dir, ok := t.find(&key.tuple, key.port, &f)
	if !ok {
		return nil, forward
	}
	return new(f), dir
}

// find is lookup for each packet: it makes f the flow of a packet with a tuple that comes
// in at a port, and takes no memory.
func (t *flowTable) find(packet *tuple, port uint32, f *flow) (dir direction, ok bool) {
	k := keyAt(packet, port)
	v := t.value(&k)
	number := v &^ bpf.Reverse
	if v == notFound || t.superseded(number) {
		return forward, false
	}
	orig, reply, in, out, ok := t.read(number)
	switch {
	case !ok:
		return forward, false
	case v&bpf.Reverse == 0 && *orig.key() == k:
		f.orig, f.reply = *packet, tupleFrom(reply.key())
	case v&bpf.Reverse != 0 && *reply.key() == k:
		dir, f.orig, f.reply = reverse, tupleFrom(orig.key()), *packet
	default:
		return forward, false
	}
	f.in, f.out, f.table, f.number = in, out, t, number
	f.flowState, f.sent = stateOfRecord(&t.records[number]), t.sentOf(number)
	return dir, true
}

// claims is how many free tuples may be lost to the programs before a flow is
// refused.
const claims = 16

// insert adds a flow under the first of the candidate reply tuples that is free. Another
// flow that was inserted for the same original tuple meanwhile is returned instead.
func (t *flowTable) insert(f *flow, candidates iter.Seq[tuple]) (*flow, dropReason) {
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
	t.counts.flows.Add(-1)
	if other, _ := t.lookup(orig); other != nil {
		return other, keep
	}
	return nil, dropNoTuple
}

// free tells whether a flow's reply key can be claimed, by its client.
func (t *flowTable) free(f *flow, now int64) bool {
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

func (t *flowTable) superseded(number uint32) bool {
	return stateOfRecord(&t.records[number]).flags.Load()&flowSuperseded != 0
}

// claim writes a flow into a record and makes both keys lead to it, the reply key
// first: only it can be another client's.
func (t *flowTable) claim(f *flow, number uint32) bool {
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
func (t *flowTable) write(number uint32, orig, reply bpf.FlowKey, f *flow) {
	r := &t.records[number]
	(&flow{flowState: stateOfRecord(r), sent: t.sentOf(number)}).copyLife(f)
	store(&r.Orig, orig)
	store(&r.Reply, reply)
}

// take takes a place in the table and the number of a free record, making room where
// that gets short. Programs take them at the same time: there are never more flows than
// the limit.
func (t *flowTable) take(now int64) (number uint32, ok bool) {
	if t.counts.flows.Load()+t.room()/2 >= t.counts.limit.Load() {
		t.evict(now)
	}
	for t.counts.flows.Add(1) > t.counts.limit.Load() {
		t.counts.flows.Add(-1)
		if !t.evict(now) {
			return 0, false
		}
	}
	for {
		if number, ok = t.unused(); ok {
			return number, true
		}
		if !t.reclaim(now) {
			t.counts.flows.Add(-1)
			return 0, false
		}
	}
}

// unused takes the number of a record that has no flow, if there is one.
func (t *flowTable) unused() (number uint32, ok bool) {
	if number, ok = t.spare.take(); ok {
		return number, true
	}
	if t.counts.fresh.Load() < uint32(len(t.records)) {
		if number = t.counts.fresh.Add(1) - 1; int(number) < len(t.records) {
			return number, true
		}
	}
	return 0, false
}

// giveBack frees the number of a record that no key leads to. A program that is
// looking at it now sees that it has changed (find in bpf/flow.h).
func (t *flowTable) giveBack(number uint32) {
	clearKeys(&t.records[number])
	t.spare.put(number)
}

// adopt adds a flow of another table as it is. False: there is no room.
func (t *flowTable) adopt(f *flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	number, ok := t.unused()
	if ok && !t.claim(f, number) {
		t.giveBack(number)
		ok = false
	}
	if ok {
		t.counts.flows.Add(1)
	}
	return ok
}

// remove ends a flow whose ends may go on to remember it. Ending one twice is harmless.
func (t *flowTable) remove(f *flow, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig, reply := f.keys()
	r := &t.records[f.number]
	ownOrig, ownReply := load(&r.Orig), load(&r.Reply)
	if *ownOrig.key() == keyOf(orig) && *ownReply.key() == keyOf(reply) && !t.superseded(f.number) {
		t.end(f.number, now)
	}
}

// end ends a living flow, which a server may remember.
func (t *flowTable) end(number uint32, now int64) {
	if r := &t.records[number]; rememberedBy(Protocol(r.Orig.Proto), stateOfRecord(r), now) {
		t.supersede(number)
	} else {
		t.discard(number)
	}
}

// supersede ends a living flow but for its reply key.
func (t *flowTable) supersede(number uint32) {
	r := &t.records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(orig.key(), number)
	before := stateOfRecord(r).flags.Or(flowSuperseded)
	if before&flowSuperseded == 0 {
		t.discount(orig.key(), reply.key(), classOf(Protocol(orig.key().Proto), before))
	}
}

// discard frees the record of a flow, and its keys. A newer flow may have the
// original one.
func (t *flowTable) discard(number uint32) {
	r := &t.records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(orig.key(), number)
	t.unpoint(reply.key(), number|bpf.Reverse)
	if flags := stateOfRecord(r).flags.Load(); flags&flowSuperseded == 0 {
		t.discount(orig.key(), reply.key(), classOf(Protocol(orig.key().Proto), flags))
	}
	t.giveBack(number)
}

// discount takes a flow of a class out of the counts.
func (t *flowTable) discount(orig, reply *bpf.FlowKey, class flowClass) {
	t.counts.flows.Add(-1)
	t.countAtPorts(orig, reply, -1, class)
}

func (t *flowTable) countAtPorts(orig, reply *bpf.FlowKey, n int64, class flowClass) {
	for _, index := range []uint16{orig.Port, reply.Port} {
		t.meters[index].flows.Add(n)
		t.meters[index].load.Add(n * loadOf(class))
	}
}

// removeIf ends all flows that a condition holds for, and returns them.
func (t *flowTable) removeIf(condition func(*flow) bool) (removed []*flow) {
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

// eachPart is how many flows are visited in some 50 µs.
const eachPart = 64

// each calls a function with every flow; the function must not call the table. The table
// is locked for eachPart flows at most. Then pause is called without the lock. If it
// returns false, that is all.
func (t *flowTable) each(visit func(*flow), pause func() bool) {
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

// whileUnlocked calls a function without a lock that is held.
func whileUnlocked(lock sync.Locker, do func() bool) bool {
	lock.Unlock()
	defer lock.Lock()
	return do()
}

// used yields the numbers of the records that may have a flow.
func (t *flowTable) used() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for number := range uint32(t.highest()) {
			if ofFlow(&t.records[number].Orig) && !yield(number) {
				return
			}
		}
	}
}

// highest is how many records, from the first on, have ever been used.
func (t *flowTable) highest() int { return min(int(t.counts.fresh.Load()), len(t.records)) }

// moved tells that a flow came into another phase.
func (t *flowTable) moved(f *flow, before, after flowClass) {
	if n := loadOf(after) - loadOf(before); n != 0 {
		f.addLoad(n)
	}
}

// sweepsPerIdleTime is how often a sweep goes round within an idle time: a flow
// ends at most an eighth of it late.
const sweepsPerIdleTime = 8

// sweepPace returns how many of a number of flows must be visited for a time that
// has passed, if each is to be visited often enough for its idle time.
func sweepPace(idleTime time.Duration, size int, passed time.Duration) int {
	return min(size, int(int64(size)*int64(passed)/int64(idleTime/sweepsPerIdleTime))+1)
}

// sweep ends idle flows. It looks at as many as the time that has passed asks for.
func (t *flowTable) sweep(now int64, passed time.Duration) {
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

func (t *flowTable) sweepRecord(number uint32, now int64) {
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

// setLimit bounds the number of flows. Those beyond a lower bound end as others begin.
func (t *flowTable) setLimit(flows int) { t.counts.limit.Store(int64(flows)) }

func (t *flowTable) len() int { return int(t.counts.flows.Load()) }
