package vnicbridge

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// The programs' maps lie in this process's memory. Both sides change them at any time:
// what is here reads and writes them as that takes, in the programs' order of bytes.

// memory maps a map into this process.
func memory(m *ebpf.Map) ([]byte, error) {
	size, page := int(m.ValueSize())*int(m.MaxEntries()), unix.Getpagesize()
	mapped, err := unix.Mmap(m.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the map %s: %w", m, err)
	}
	return mapped, nil
}

// planeState is bpf.Plane, with those fields atomic that both sides change.
type planeState struct {
	mode, half, impossible, clock atomic.Uint32
	nearMask, farMask             uint32
	heartbeat                     atomic.Uint64
	hashKey, tableKey             [2]uint64
	flows, limit                  atomic.Int64
	capacity, fresh               atomic.Uint32
	refusals                      atomic.Int32
	quarantine                    atomic.Uint32
	odd, strays                   bpf.Budget // the programs' own
}

func stateOfRecord(r *bpf.FlowRecord) *flowState { return (*flowState)(unsafe.Pointer(&r.State)) }

func keyOf(k flowKey) bpf.FlowKey {
	return bpf.FlowKey{
		Src: be32(k.src), Dst: be32(k.dst), Sport: be16(k.sport), Dport: be16(k.dport),
		Port: uint16(k.port), Proto: uint8(k.proto),
	}
}

func tupleFrom(k *bpf.FlowKey) tuple {
	return tuple{
		src: addrFromBE32(k.Src), dst: addrFromBE32(k.Dst), sport: be16(k.Sport), dport: be16(k.Dport),
		proto: Protocol(k.Proto),
	}
}

// Numbers in the order of the network, as the programs keep them.

func be32(a addr) uint32 { return binary.NativeEndian.Uint32(a.v4()) }

func be16(v uint16) uint16 { return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)}) }

func addrFromBE32(v uint32) addr {
	return addrOf(netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, v))))
}

// words are a key as both sides load and store it: first the addresses, then the ports,
// the protocol and the device's port. The second word of no flow's key is 0.
func words(k *bpf.FlowKey) *[2]atomic.Uint64 { return (*[2]atomic.Uint64)(unsafe.Pointer(k)) }

// load copies a key that the programs, or another goroutine, may be writing.
func load(k *bpf.FlowKey) (copied bpf.FlowKey) {
	from := words(k)
	to := (*[2]uint64)(unsafe.Pointer(&copied))
	to[0], to[1] = from[0].Load(), from[1].Load()
	return copied
}

func store(k *bpf.FlowKey, v bpf.FlowKey) {
	to := words(k)
	from := (*[2]uint64)(unsafe.Pointer(&v))
	to[0].Store(from[0])
	to[1].Store(from[1])
}

// ofFlow tells whether a key is one of a flow. Its load is atomic: what a caller reads of
// the record afterwards is at least as new.
func ofFlow(k *bpf.FlowKey) bool { return words(k)[1].Load() != 0 }

// clearKeys leaves a record without a flow. It does so in the order that find in
// bpf/flow.h relies on, and leaves the addresses to whoever reuses the record.
func clearKeys(r *bpf.FlowRecord) {
	words(&r.Orig)[1].Store(0)
	words(&r.Reply)[1].Store(0)
}
