package flow

import (
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Both data paths keep flows in the records that bpf/types.h defines. Programs and goroutines change
// a record at any time, so Go loads and stores its parts by atomic operations.

func stateOfRecord(r *bpf.FlowRecord) *State { return (*State)(unsafe.Pointer(&r.State)) }

func KeyOf(k Key) bpf.FlowKey { return keyAt(&k.Tuple, k.Iface) }

func keyAt(t *packet.Tuple, iface uint32) bpf.FlowKey {
	return bpf.FlowKey{
		Src: packet.BE32(t.Src), Dst: packet.BE32(t.Dst), Sport: packet.BE16(t.Sport), Dport: packet.BE16(t.Dport),
		Iface: uint16(iface), Proto: uint8(t.Proto),
	}
}

func tupleFrom(k *bpf.FlowKey) packet.Tuple {
	return packet.Tuple{
		Src: packet.AddrFromBE32(k.Src), Dst: packet.AddrFromBE32(k.Dst), Sport: packet.BE16(k.Sport), Dport: packet.BE16(k.Dport),
		Proto: config.Protocol(k.Proto),
	}
}

// words are a key as both sides load and store it: first the addresses, then the ports,
// the protocol and the device's iface. The second word of no flow's key is 0.
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

// ClearKeys leaves a record without a flow. It does so in the order that find in
// bpf/flow.h relies on, and leaves the addresses to whoever reuses the record.
func ClearKeys(r *bpf.FlowRecord) {
	words(&r.Orig)[1].Store(0)
	words(&r.Reply)[1].Store(0)
}
