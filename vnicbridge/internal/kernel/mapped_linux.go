package kernel

import (
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// memory maps the values of a BPF map into this process's memory.
func memory(m *ebpf.Map) ([]byte, error) {
	size, page := int(m.ValueSize())*int(m.MaxEntries()), unix.Getpagesize()
	mapped, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the map %s: %w", m, err)
	}
	return mapped, nil
}

// PlaneState is bpf.Plane. The fields that Go and the programs both change are atomic.
type PlaneState struct {
	mode, half, impossible, Clock atomic.Uint32
	nearMask, farMask             uint32
	heartbeat                     atomic.Uint64
	hashKey, tableKey             [2]uint64
	flows, limit                  atomic.Int64
	capacity, fresh               atomic.Uint32
	refusals                      atomic.Int32
	quarantine                    atomic.Uint32
	Odd, Strays                   bpf.Budget   // the programs' own
	Began                         atomic.Int64 // the programs' clock when the plane's was 0
	SYNs                          int64        // the programs' own
}

// spareMap has the numbers of free flow records. The programs take numbers from the same map.
type spareMap struct{ *ebpf.Map }

// Take returns the number of a free record. ok is false if there is none.
func (m spareMap) Take() (number uint32, ok bool) {
	ok = m.LookupAndDelete(nil, &number) == nil
	return number, ok
}

// Put frees the number of a record.
func (m spareMap) Put(number uint32) {
	_ = m.Update(nil, number, ebpf.UpdateAny) // the map has room for all numbers
}
