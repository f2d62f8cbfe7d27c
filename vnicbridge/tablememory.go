package vnicbridge

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// tableMemory is where a flow table is: in the programs' maps, which are mapped into this
// process, or in this process's own memory.
type tableMemory struct {
	keyTable
	answers []flowTraffic // to each record's opener
	meters  []gauges      // by port
	spare   spareNumbers
	counts  tableCounts

	// For the programs: until when they give a reply key to nobody, by the hash of the
	// key. nil: there are no programs.
	untils []atomic.Uint64
}

// tableCounts are the numbers of a flow table that programs may change, too.
type tableCounts struct {
	flows, limit *atomic.Int64
	fresh        *atomic.Uint32 // how many records, from the first on, have ever been used
	quarantine   *atomic.Uint32 // the latest time in untils
}

// spareNumbers are the numbers of records that are free again, the latest first. The
// table's lock guards them.
type spareNumbers interface {
	take() (number uint32, ok bool)
	put(number uint32)
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

// ownTable is an empty flow table in this process's own memory.
func ownTable(maxFlows int, evicted *handshakes) *flowTable {
	near, far := bucketsFor(maxFlows)
	records := recordsFor(maxFlows)
	var m tableMemory
	// The records and buckets are touched only as flows come. They stay out of the heap,
	// because the collector would wait for garbage of as many bytes.
	pages, freeWith := setAside((near+far)*int(unsafe.Sizeof(bucket{})) + records*int(unsafe.Sizeof(bpf.FlowRecord{})+unsafe.Sizeof(flowTraffic{})))
	buckets, rest := carve[bucket](pages, near+far)
	m.near, m.far = buckets[:near], buckets[near:]
	m.records, rest = carve[bpf.FlowRecord](rest, records)
	m.answers, _ = carve[flowTraffic](rest, records)
	m.secret = [2]uint64{rand.Uint64(), rand.Uint64()}
	m.meters = make([]gauges, maxPorts)
	m.spare = new(ownNumbers)
	m.counts = tableCounts{flows: new(atomic.Int64), limit: new(atomic.Int64), fresh: new(atomic.Uint32), quarantine: new(atomic.Uint32)}
	t := newFlowTable(m, maxFlows, evicted)
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

func (n *ownNumbers) take() (number uint32, ok bool) {
	last := len(n.stack) - 1
	if last < 0 {
		return 0, false
	}
	number, n.stack = n.stack[last], n.stack[:last]
	return number, true
}

func (n *ownNumbers) put(number uint32) { n.stack = append(n.stack, number) }
