package flow

import (
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Both data paths keep flows in the records that bpf/types.h defines. Programs and
// goroutines change a record at any time, so Go loads and stores its parts atomically.

func stateOfRecord(r *bpf.FlowRecord) *State { return (*State)(unsafe.Pointer(&r.State)) }

// KeyOf converts a key to the form that records hold.
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

// words returns a key as the two words that both sides load and store: the addresses, and
// then the ports, the iface and the protocol. The second word is 0 only if the record has
// no flow.
func words(k *bpf.FlowKey) *[2]atomic.Uint64 { return (*[2]atomic.Uint64)(unsafe.Pointer(k)) }

// keyWords is a copy of a key in two registers of the CPU.
type keyWords struct{ hosts, rest uint64 }

func (w *keyWords) key() *bpf.FlowKey { return (*bpf.FlowKey)(unsafe.Pointer(w)) }

// load copies a key while programs and goroutines may write it. Each word is consistent; the
// two words may be of different flows.
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

// ofFlow tells whether a key belongs to a flow. What the caller reads of the record
// afterwards is at least as new, because the load is atomic.
func ofFlow(k *bpf.FlowKey) bool { return words(k)[1].Load() != 0 }

// ClearKeys leaves a record without a flow. find in bpf/flow.h relies on the order. The
// addresses stay until the record is reused.
func ClearKeys(r *bpf.FlowRecord) {
	words(&r.Orig)[1].Store(0)
	words(&r.Reply)[1].Store(0)
}
