package vnicbridge

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// Both data paths keep flows in the records that bpf/types.h defines. Programs and goroutines change
// a record at any time, so Go loads and stores its parts by atomic operations.

func stateOfRecord(r *bpf.FlowRecord) *flowState { return (*flowState)(unsafe.Pointer(&r.State)) }

func keyOf(k flowKey) bpf.FlowKey { return keyAt(&k.tuple, k.port) }

func keyAt(t *tuple, port uint32) bpf.FlowKey {
	return bpf.FlowKey{
		Src: be32(t.src), Dst: be32(t.dst), Sport: be16(t.sport), Dport: be16(t.dport),
		Port: uint16(port), Proto: uint8(t.proto),
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

func be16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

func addrFromBE32(v uint32) (a addr) {
	const mapped = 0xffff << 32 // RFC 4291 §2.5.5.2
	binary.BigEndian.PutUint64(a[8:], mapped|uint64(host32(v)))
	return a
}

// host32 is a number of the network's in the order of this machine.
func host32(v uint32) uint32 {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return binary.BigEndian.Uint32(b[:])
}

// words are a key as both sides load and store it: first the addresses, then the ports,
// the protocol and the device's port. The second word of no flow's key is 0.
func words(k *bpf.FlowKey) *[2]atomic.Uint64 { return (*[2]atomic.Uint64)(unsafe.Pointer(k)) }

// keyWords is a copy of a key in two registers of the CPU.
type keyWords struct{ hosts, rest uint64 }

func (w *keyWords) key() *bpf.FlowKey { return (*bpf.FlowKey)(unsafe.Pointer(w)) }

// load copies a key that the programs, or another goroutine, may be writing.
func load(k *bpf.FlowKey) keyWords {
	from := words(k)
	return keyWords{from[0].Load(), from[1].Load()}
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
