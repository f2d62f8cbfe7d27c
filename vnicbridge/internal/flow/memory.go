package flow

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// TableMemory is where a flow table is: in the programs' maps, which are mapped into this
// process, or in this process's own memory.
type TableMemory struct {
	KeyTable
	Answers []Traffic      // to each record's opener
	Meters  []iface.Gauges // by iface
	Spare   spareNumbers
	Counts  TableCounts

	// For the programs: until when they give a reply key to nobody, by the hash of the
	// key. nil: there are no programs.
	Untils []atomic.Uint64
}

// TableCounts are the numbers of a flow table that programs may change, too.
type TableCounts struct {
	Flows, Limit *atomic.Int64
	Fresh        *atomic.Uint32 // how many records, from the first on, have ever been used
	Quarantine   *atomic.Uint32 // the latest time in untils
}

// spareNumbers are the numbers of records that are free again, the latest first. The
// table's lock guards them.
type spareNumbers interface {
	Take() (number uint32, ok bool)
	Put(number uint32)
}

// RecordsFor is how many records a table of a size has: an eighth more than flows,
// for those that are superseded.
func RecordsFor(maxFlows int) int { return maxFlows + maxFlows/8 + 64 }

// BucketsFor is how many near and far buckets there are, powers of two: on average
// less than half of the far slots are in use when the table is full. The near ones,
// at most 1 MiB, hold what there is on most days.
func BucketsFor(maxFlows int) (near, far int) {
	keys := 2 * RecordsFor(maxFlows)
	far = 1 << bits.Len(uint(keys/3))
	return min(far/8, 1<<14), far
}

// OwnTable is an empty flow table in this process's own memory.
func OwnTable(maxFlows int, evicted *Handshakes) *Table {
	near, far := BucketsFor(maxFlows)
	records := RecordsFor(maxFlows)
	var m TableMemory
	// The records and buckets are touched only as flows come. They stay out of the heap,
	// because the collector would wait for garbage of as many bytes.
	pages, freeWith := setAside((near+far)*int(unsafe.Sizeof(Bucket{})) + records*int(unsafe.Sizeof(bpf.FlowRecord{})+unsafe.Sizeof(Traffic{})))
	buckets, rest := carve[Bucket](pages, near+far)
	m.Near, m.Far = buckets[:near], buckets[near:]
	m.Records, rest = carve[bpf.FlowRecord](rest, records)
	m.Answers, _ = carve[Traffic](rest, records)
	m.Secret = [2]uint64{rand.Uint64(), rand.Uint64()}
	m.Meters = make([]iface.Gauges, iface.Max)
	m.Spare = new(ownNumbers)
	m.Counts = TableCounts{Flows: new(atomic.Int64), Limit: new(atomic.Int64), Fresh: new(atomic.Uint32), Quarantine: new(atomic.Uint32)}
	t := NewTable(m, maxFlows, evicted)
	freeWith(t)
	return t
}

// carve takes a number of values from the beginning of memory, and returns the rest.
func carve[T any](memory []byte, n int) (values []T, rest []byte) {
	var one T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), n), memory[n*int(unsafe.Sizeof(one)):]
}

// ownNumbers are spareNumbers that no program takes.
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
