package flow

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// TableMemory is the memory of a flow table: either the programs' maps, which are mapped
// into this process, or memory of this process alone.
type TableMemory struct {
	KeyTable
	Answers []Traffic       // by record: what was sent to the opener
	Wide    []WideAddresses // by record: the addresses of IPv6 flows; empty: there can be none
	Shifts  []ShiftWords    // by record: how the numbers of shifted flows differ
	Meters  []iface.Gauges  // by iface
	Limits  []iface.Limits  // of segments, by the VNIC's iface for IPv4
	Clients []ClientCounts  // of clients of segments that limit them, by a hash
	Held    []Held          // what the bridge holds of clients, by a hash; empty: there are no programs
	Spare   spareNumbers
	Counts  TableCounts

	// Untils is the quarantine as the programs see it: by a hash of a reply key, the coarse
	// time until which they do not use the key. It is nil if there are no programs.
	Untils []atomic.Uint64
}

// Extras tell which flows there can be that take more memory than the others.
type Extras struct {
	Wide  bool // there can be IPv6 flows
	Named bool // there can be greeted flows, because host names choose their segment
}

// TableCounts are numbers that the programs change too.
type TableCounts struct {
	Flows, Limit *atomic.Int64
	Fresh        *atomic.Uint32 // how many records, from the first on, have ever been used
	Quarantine   *atomic.Uint32 // the latest time in Untils
}

// spareNumbers is a stack of the numbers of freed records. The table's lock guards it
// against goroutines.
type spareNumbers interface {
	Take() (number uint32, ok bool)
	Put(number uint32)
}

// RecordsFor returns how many records a table for maxFlows flows has. About an eighth of
// them is for superseded flows.
func RecordsFor(maxFlows int) int { return maxFlows + maxFlows/8 + 64 }

// BucketsFor returns how many near and far buckets a table for maxFlows flows has. Both are
// powers of two. If the table is full, less than half of the far slots are in use on
// average. The near buckets take at most 1 MiB, and hold all keys of a table with few flows.
func BucketsFor(maxFlows int) (near, far int) {
	keys := 2 * RecordsFor(maxFlows)
	far = 1 << bits.Len(uint(keys/3))
	return min(far/8, 1<<14), far
}

// OwnTable returns an empty flow table in memory of this process. evicted remembers
// handshakes of evicted flows.
func OwnTable(maxFlows int, evicted *Handshakes) *Table {
	near, far := BucketsFor(maxFlows)
	records := RecordsFor(maxFlows)
	var m TableMemory
	// Records and buckets take physical memory only as flows come. They stay out of the
	// heap, because the garbage collector would let as many bytes of garbage pile up.
	pages, freeWith := setAside((near+far)*int(unsafe.Sizeof(Bucket{})) +
		records*int(unsafe.Sizeof(bpf.FlowRecord{})+unsafe.Sizeof(Traffic{})+unsafe.Sizeof(WideAddresses{})+unsafe.Sizeof(ShiftWords{})) +
		clientCounts*int(unsafe.Sizeof(ClientCounts{})))
	buckets, rest := carve[Bucket](pages, near+far)
	m.Near, m.Far = buckets[:near], buckets[near:]
	m.Records, rest = carve[bpf.FlowRecord](rest, records)
	m.Wide, rest = carve[WideAddresses](rest, records)
	m.Answers, rest = carve[Traffic](rest, records)
	m.Clients, rest = carve[ClientCounts](rest, clientCounts)
	m.Shifts, _ = carve[ShiftWords](rest, records)
	m.Secret = [2]uint64{rand.Uint64(), rand.Uint64()}
	m.Meters, m.Limits = make([]iface.Gauges, iface.Max), make([]iface.Limits, iface.Max)
	m.Spare = new(ownNumbers)
	m.Counts = TableCounts{Flows: new(atomic.Int64), Limit: new(atomic.Int64), Fresh: new(atomic.Uint32), Quarantine: new(atomic.Uint32)}
	t := NewTable(m, maxFlows, evicted)
	freeWith(t)
	return t
}

// hasMemoryFor tells whether the table can hold a flow of this kind, because a greeted one needs a
// shift.
func (t *Table) hasMemoryFor(f *Flow) bool {
	return f.Flags.Load()&Greeted == 0 || len(t.Shifts) == len(t.Records)
}

// carve returns the first n values in memory, and the rest of the memory.
func carve[T any](memory []byte, n int) (values []T, rest []byte) {
	var one T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), n), memory[n*int(unsafe.Sizeof(one)):]
}

// ownNumbers are the spareNumbers of a table that no program uses.
type ownNumbers struct{ stack []uint32 }

func (n *ownNumbers) Take() (number uint32, ok bool) {
	last := len(n.stack) - 1
	if last < 0 {
		return 0, false
	}
	number, n.stack = n.stack[last], n.stack[:last]
	return number, true
}

func (n *ownNumbers) Put(number uint32) { n.stack = append(n.stack, number) }
