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
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// FlowBytes is the memory of one flow in bytes, at most: its record, the counts of its
// answers, and its share of the spare records, of the buckets, and of the stack of free
// records. The kernel path allocates the memory of max_flows flows when it starts. The
// userspace path takes it as flows come. A test checks the number.
const FlowBytes = 162

// What one flow takes in addition, in bytes, with its share of that of the spare records.
const (
	WideBytes  = 73 // if there can be IPv6 flows: its addresses
	ShiftBytes = 19 // if there can be greeted flows: how their numbers are shifted
)

// Table holds the living flows, at most as many as its limit. A flow has two keys, which are
// claimed together, so that no two flows share a reply tuple. Both data paths use it: its
// memory is either the programs' maps or memory of this process.
//
// If a flow is over but a server may remember it, the flow is superseded: it no longer
// counts, but its record stays and keeps the reply key from other clients (A5). If no
// record is free, as in a flood, the table frees such records and puts their reply keys
// into quarantine instead.
//
// Lookups take no lock. Insert, Adopt, Remove, RemoveIf, Each and Sweep do.
type Table struct {
	TableMemory
	ifaces [iface.Max]atomic.Pointer[iface.Iface] // by index

	mu   lockorder.Mutex[lockorder.FlowTable]
	hand int // the record that was swept last

	survey      survey
	connections []victim             // established flows to evict first
	victims     []cohort             // flows to evict after them
	over        cohort               // superseded flows to evict if no record is free
	crowd       crowd                // the client that has most established flows
	hands       [flowClasses + 1]int // by class: the record that cohorts have reached

	noVictims, noneOver uint32 // coarse times at which a scan of all records found none

	spare spare // flows of a segment that is at its limit

	quarantine quarantine // of flows whose records were needed
	handshakes *Handshakes
	saturation saturation
}

// NewTable returns a table with some memory, for at most limit flows. evicted remembers
// handshakes of evicted flows.
func NewTable(memory TableMemory, limit int, evicted *Handshakes) *Table {
	t := &Table{TableMemory: memory, handshakes: evicted}
	t.SetLimit(limit)
	return t
}

// Know makes an iface known: only flows between known ifaces are found.
func (t *Table) Know(p *iface.Iface) {
	t.Meters[p.Index].Twin.Store(p.TwinIndex())
	t.ifaces[p.Index].Store(p)
}

// Forget makes a closed iface unknown. While the iface is only without its device, it stays
// known, and its flows wait.
func (t *Table) Forget(p *iface.Iface) {
	if t.ifaces[p.Index].CompareAndSwap(p, nil) {
		t.Meters[p.Index].Limit.Store(0)
		t.Meters[p.Index].Twin.Store(0)
		t.Meters[p.Index].Standby.Store(0)
		t.Limits[p.Index].Refused.Store(0)
	}
}

// IfaceOf returns the iface with an index, or nil if it is not known.
func (t *Table) IfaceOf(index uint32) *iface.Iface {
	if index >= iface.Max {
		return nil
	}
	return t.ifaces[index].Load()
}

// Gauges returns the gauges in which the table counts the flows of an iface.
func (t *Table) Gauges(p *iface.Iface) *iface.Gauges { return &t.Meters[p.Index] }

// Fits tells whether the table's memory is that for a limit of maxFlows flows with some extras. A
// larger table would not do: superseded flows would fill it, and with it all tuples of a small
// pool of aliases.
func (t *Table) Fits(maxFlows int, extras Extras) bool {
	return RecordsFor(maxFlows) == len(t.Records) &&
		(!extras.Wide || len(t.Wide) == len(t.Records)) && (!extras.Named || len(t.Shifts) == len(t.Records))
}

// at returns the living flow of a record, or nil if the record has none.
func (t *Table) at(number uint32) *Flow {
	if t.superseded(number) {
		return nil
	}
	return t.flowOf(number)
}

// flowOf returns the flow of a record, even if it is superseded, or nil if the record has
// none.
func (t *Table) flowOf(number uint32) *Flow {
	var r reading
	if !t.read(number, &r) {
		return nil
	}
	f := new(Flow)
	f.Orig, f.Reply = r.tuples()
	t.view(f, number, &r)
	return f
}

// view makes f a view of a record, except for its tuples.
func (t *Table) view(f *Flow, number uint32, r *reading) {
	f.In, f.Out, f.table, f.Number = r.in, r.out, t, number
	f.State, f.Sent, f.shift = stateOfRecord(&t.Records[number]), t.sentOf(number), t.shiftOf(number)
}

// reading is what a record says of its flow.
type reading struct {
	orig, reply keyWords
	in, out     *iface.Iface
	addresses   // of an IPv6 flow
}

// tuples returns both tuples of the flow.
func (r *reading) tuples() (orig, reply packet.Tuple) {
	a := &r.addresses
	return tupleFrom(r.orig.key(), a.orig.src, a.orig.dst), tupleFrom(r.reply.key(), a.reply.src, a.reply.dst)
}

// read reads the keys, addresses and ifaces of a record's flow. Meanwhile a program may reuse
// the record. If orig is unchanged after reply was loaded, both keys belong to one flow (find
// in bpf/flow.h). reply is loaded twice as well, because a goroutine may be interrupted
// between the halves of a key, and the record may be reused and come back meanwhile. The
// addresses are loaded in between. ok is false if the record has no flow.
func (t *Table) read(number uint32, to *reading) (ok bool) {
	r := &t.Records[number]
	to.orig, to.reply = load(&r.Orig), load(&r.Reply)
	to.in, to.out = t.IfaceOf(uint32(to.orig.key().Iface)), t.IfaceOf(uint32(to.reply.key().Iface))
	if to.orig.key().Family == uint8(config.IPv6) {
		to.addresses = t.Wide[number].load()
	}
	return to.in != nil && to.out != nil && load(&r.Orig) == to.orig && load(&r.Reply) == to.reply
}

func (t *Table) sentOf(number uint32) [2]*Traffic {
	return [2]*Traffic{(*Traffic)(unsafe.Pointer(&t.Records[number].Sent)), &t.Answers[number]}
}

// shiftOf returns the shift of a record's flow.
func (t *Table) shiftOf(number uint32) *ShiftWords {
	return &t.Shifts[min(int(number), len(t.Shifts)-1)]
}

// Lookup returns the living flow that has a key, or nil, and the direction of the packets
// that have the key.
func (t *Table) Lookup(key Key) (*Flow, Direction) {
	var f Flow
	dir, ok := t.Find(&key.Tuple, key.Iface, &f)
	if !ok {
		return nil, Forward
	}
	return new(f), dir
}

// Find is [Table.Lookup] for the path of every packet: it writes the flow to *f instead of
// allocating one.
func (t *Table) Find(packet *packet.Tuple, iface uint32, f *Flow) (dir Direction, ok bool) {
	k := t.keyAt(packet, iface)
	v := t.value(&k)
	number := v &^ bpf.Reverse
	if v == notFound || t.superseded(number) {
		return Forward, false
	}
	var r reading
	if !t.read(number, &r) {
		return Forward, false
	}
	own := &r.orig
	if v&bpf.Reverse != 0 {
		dir, own = Reverse, &r.reply
	}
	if f.Orig, f.Reply = r.tuples(); *own.key() != k || k.Family == uint8(config.IPv6) && *f.tupleOf(dir) != *packet {
		return Forward, false
	}
	t.view(f, number, &r)
	return dir, true
}

// claims is how often programs may take a free tuple before Insert can claim it. Then the
// flow is refused.
const claims = 16

// Insert adds flow f with the first of the candidate reply tuples that is free, makes f a view
// of its record, and returns it. If there is a flow with the same original tuple, Insert returns
// that one. If the table's limit, or one of a segment, is reached, it evicts flows. If no
// candidate of a flow from the network is free, it evicts the flow that has one. The reason is
// DropTableFull, DropNoTuple or DropLimit if no flow can be evicted; the flow is then nil.
func (t *Table) Insert(f *Flow, candidates iter.Seq[packet.Tuple]) (*Flow, packet.DropReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig, _ := f.Keys()
	if other, dir := t.Lookup(orig); other != nil && dir == Forward {
		return other, packet.Keep
	}
	if !t.hasMemoryFor(f) {
		return nil, packet.DropTableFull
	}
	now := int64(f.LastSeen.Load()) << ClockShift
	if reason := t.limited(f, now); reason != packet.Keep {
		return nil, reason
	}
	number, ok := t.take(now, f.Orig.Src)
	if !ok {
		return nil, packet.DropTableFull
	}
	lost := 0
	var oldest holder
	for f.Reply = range t.saturation.skip(f, candidates, now) {
		if taken, free := t.free(f, now); !free {
			t.consider(&oldest, taken, f, now)
			continue
		}
		if t.begin(f, number, now) {
			return f, packet.Keep
		}
		// A program has opened the same flow, or has claimed the tuple for another one; or
		// the buckets are full.
		if other, _ := t.Lookup(orig); other != nil {
			break
		}
		if lost++; lost == claims {
			break
		}
	}
	if lost == 0 && t.takeOver(&oldest, f) && t.begin(f, number, now) {
		return f, packet.Keep
	}
	t.giveBack(number)
	t.Counts.Flows.Add(-1)
	if other, _ := t.Lookup(orig); other != nil {
		return other, packet.Keep
	}
	return nil, packet.DropNoTuple
}

// begin claims a flow's keys, counts the flow, and makes it a view of its record. It returns
// false if another flow has one of the keys, or the buckets are full.
func (t *Table) begin(f *Flow, number uint32, now int64) bool {
	if !t.claim(f, number) {
		return false
	}
	f.In.NewFlows.Add(1)
	f.Out.NewFlows.Add(1)
	t.spend(f.In, now)
	t.spend(f.Out, now)
	if t.saturation.add(f, now) {
		t.keepFromPrograms(anyAlias(f), now)
	}
	t.view(f, number, &reading{in: f.In, out: f.Out})
	return true
}

// free tells whether a flow's reply key can be claimed. If a superseded flow that need not
// keep the key has it, free removes that flow. taken is the record of the flow that has the
// key, or notFound if none has it.
func (t *Table) free(f *Flow, now int64) (taken uint32, free bool) {
	_, reply := f.Keys()
	if t.quarantine.holds(reply, f.Orig.Src, now) {
		return notFound, false
	}
	k := t.KeyOf(reply)
	v := t.value(&k)
	if v == notFound {
		return notFound, true
	}
	taken = v &^ bpf.Reverse
	free = t.superseded(taken) && (t.clientOf(taken) == f.Orig.Src || expired(&t.Records[taken], now))
	if free {
		t.Discard(taken)
	}
	return taken, free
}

// clientOf returns the address that opened the flow of a record. It may be of any flow if the
// record is reused meanwhile.
func (t *Table) clientOf(number uint32) packet.Addr {
	if orig := load(&t.Records[number].Orig); orig.key().Family == uint8(config.IPv4) {
		return packet.AddrFromBE32(orig.key().Src)
	}
	a := t.Wide[number].load()
	return a.orig.src
}

func (t *Table) superseded(number uint32) bool {
	return stateOfRecord(&t.Records[number]).Flags.Load()&Superseded != 0
}

// claim writes a flow into a record and makes both keys point to it. The reply key comes
// first, because only the reply key can belong to another client.
func (t *Table) claim(f *Flow, number uint32) bool {
	origKey, replyKey := f.Keys()
	orig, reply := t.KeyOf(origKey), t.KeyOf(replyKey)
	t.Write(number, f)
	if !t.KeyTable.point(&reply, number|bpf.Reverse) {
		return false
	}
	// A superseded flow keeps its reply key from other clients, but not from the segment
	// itself, if that opens a flow with the same tuple.
	if v := t.value(&orig); v != notFound && t.superseded(v&^bpf.Reverse) {
		t.Discard(v &^ bpf.Reverse)
	}
	if !t.KeyTable.point(&orig, number) {
		t.unpoint(&reply, number|bpf.Reverse)
		return false
	}
	t.countAtIfaces(&orig, &reply, 1, f.Class())
	t.countClient(number)
	return true
}

// Write writes a flow into a cleared record. The keys come last, because the sweep judges
// every record that has keys.
func (t *Table) Write(number uint32, f *Flow) {
	r := &t.Records[number]
	(&Flow{State: stateOfRecord(r), Sent: t.sentOf(number), shift: t.shiftOf(number)}).copyLife(f)
	stateOfRecord(r).Flags.And(^uint32(Counted)) // another table may have counted it
	if f.Orig.Src.IsIPv6() {
		var a addresses
		a.orig.src, a.orig.dst, a.reply.src, a.reply.dst = f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst
		t.Wide[number].store(a)
	}
	orig, reply := f.Keys()
	store(&r.Orig, t.KeyOf(orig))
	store(&r.Reply, t.KeyOf(reply))
}

// take reserves a place in the table for a flow, and takes a free record. opener opens the flow. It
// evicts flows before the limit is reached. Programs reserve places at the same time, but the
// number of flows never exceeds the limit. ok is false if no flow can be evicted.
func (t *Table) take(now int64, opener packet.Addr) (number uint32, ok bool) {
	if t.Counts.Flows.Load()+t.room()/2 >= t.Counts.Limit.Load() {
		t.evict(now)
	}
	for t.Counts.Flows.Add(1) > t.Counts.Limit.Load() {
		t.Counts.Flows.Add(-1)
		if !t.evict(now) && !t.evictOfCrowd(now, opener) {
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

// unused takes a record without a flow: the one freed last, or else one that was never used.
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

// giveBack frees a record to which no key points. A program that reads it at this moment
// notices the change (find in bpf/flow.h).
func (t *Table) giveBack(number uint32) {
	ClearKeys(&t.Records[number])
	t.Spare.Put(number)
}

// Adopt adds a flow of another table, with its reply tuple and state. It returns false if
// the table has no room for it. It evicts nothing.
func (t *Table) Adopt(f *Flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.hasMemoryFor(f) {
		return false
	}
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

// Remove ends a flow. If the server may remember the flow, its reply key stays claimed.
// Removing a flow twice is harmless.
func (t *Table) Remove(f *Flow, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	orig, reply := f.Keys()
	r := &t.Records[f.Number]
	ownOrig, ownReply := load(&r.Orig), load(&r.Reply)
	if *ownOrig.key() == t.KeyOf(orig) && *ownReply.key() == t.KeyOf(reply) && !t.superseded(f.Number) {
		t.end(f.Number, now)
	}
}

// end ends a living flow: it supersedes the flow if a server may remember it.
func (t *Table) end(number uint32, now int64) {
	if r := &t.Records[number]; RememberedBy(config.Protocol(r.Orig.Proto), stateOfRecord(r), now) {
		t.supersede(number)
	} else {
		t.Discard(number)
	}
}

// supersede ends a living flow, except that the flow keeps its reply key.
func (t *Table) supersede(number uint32) {
	r := &t.Records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(orig.key(), number)
	before := stateOfRecord(r).Flags.Or(Superseded)
	if before&Superseded == 0 {
		t.discount(number, orig.key(), reply.key(), before)
	}
}

// Discard ends a flow, living or superseded, and frees its keys and its record. If a newer
// flow has the original key, that flow keeps it.
func (t *Table) Discard(number uint32) {
	r := &t.Records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	t.unpoint(orig.key(), number)
	t.unpoint(reply.key(), number|bpf.Reverse)
	if flags := stateOfRecord(r).Flags.Load(); flags&Superseded == 0 {
		t.discount(number, orig.key(), reply.key(), flags)
	}
	t.giveBack(number)
}

// discount subtracts the flow of a record from the counts. flags are the flow's.
func (t *Table) discount(number uint32, orig, reply *bpf.FlowKey, flags uint32) {
	t.Counts.Flows.Add(-1)
	t.countAtIfaces(orig, reply, -1, classOf(config.Protocol(orig.Proto), flags))
	t.uncountClient(number, uint32(reply.Iface), flags)
}

func (t *Table) countAtIfaces(orig, reply *bpf.FlowKey, n int64, class Class) {
	for _, index := range []uint16{orig.Iface, reply.Iface} {
		t.Meters[index].Flows.Add(n)
		t.Meters[index].Load.Add(n * loadOf(class))
	}
}

// RemoveIf ends all living flows for which a condition holds, and returns copies of them.
// The condition runs with the table locked, so it must not call the table. Reply keys are
// freed at once.
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

// EachPart is how many records Each visits without a pause, which takes about 50 µs.
const EachPart = 64

// Each calls visit with every living flow. visit must not call the table, because the table
// is locked. After every EachPart flows Each releases the lock and calls pause. If pause
// returns false, Each returns without the remaining flows.
func (t *Table) Each(visit func(*Flow), pause func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	visited := 0
	for number := range t.Used() {
		if f := t.at(number); f != nil {
			visit(f)
		}
		if visited++; visited%EachPart == 0 && !whileUnlocked(&t.mu, pause) {
			return // the table's memory may be gone
		}
	}
}

// whileUnlocked releases a lock while a function runs.
func whileUnlocked(lock sync.Locker, do func() bool) bool {
	lock.Unlock()
	defer lock.Lock()
	return do()
}

// Used yields the numbers of the records that may have a flow, living or superseded.
func (t *Table) Used() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for number := range uint32(t.highest()) {
			if ofFlow(&t.Records[number].Orig) && !yield(number) {
				return
			}
		}
	}
}

// highest returns how many records, from the first on, have ever been used.
func (t *Table) highest() int { return min(int(t.Counts.Fresh.Load()), len(t.Records)) }

// Moved updates the load of a flow's ifaces after the flow's class has changed.
func (t *Table) Moved(f *Flow, before, after Class) {
	n := loadOf(after) - loadOf(before)
	if n == 0 {
		return
	}
	f.addLoad(n)
	if n > 0 {
		t.countClient(f.Number)
	} else {
		t.uncountClient(f.Number, f.Out.Index, f.Flags.Load())
	}
}

// SweepsPerIdleTime is how often the sweep visits each record within the shortest idle
// time. So a flow ends late by at most 1/8 of that time.
const SweepsPerIdleTime = 8

// sweepPace returns how many of size records must be visited after `passed`, so that each
// is visited SweepsPerIdleTime times in an idle time.
func sweepPace(idleTime time.Duration, size int, passed time.Duration) int {
	return min(size, int(int64(size)*int64(passed)/int64(idleTime/SweepsPerIdleTime))+1)
}

// Sweep ends flows that have reached their idle time. Each call visits a part of the
// records, in proportion to the time since the last call.
func (t *Table) Sweep(now int64, passed time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine.sweep(now)
	// One hand visits all classes, at the pace that the shortest idle time needs.
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

// expired tells whether a record's flow has reached its idle time. A superseded flow expires
// when no server remembers it any more (A5). If its server has never accepted it, this is
// at once.
func expired(r *bpf.FlowRecord, now int64) bool {
	s := stateOfRecord(r)
	flags := s.Flags.Load()
	if flags&Superseded != 0 {
		return flags&Accepted == 0 || s.Idle(now) >= TimeWait
	}
	return s.Idle(now) >= IdleTimes[classOf(config.Protocol(r.Orig.Proto), flags)]
}

// SetLimit bounds the number of living flows. If there are more already, they are evicted
// as new flows begin. The limit must fit the memory: see [Table.Fits].
func (t *Table) SetLimit(flows int) { t.Counts.Limit.Store(int64(flows)) }

// Len returns the number of living flows.
func (t *Table) Len() int { return int(t.Counts.Flows.Load()) }
