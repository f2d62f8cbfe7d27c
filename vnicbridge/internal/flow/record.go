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
func (t *KeyTable) KeyOf(k Key) bpf.FlowKey { return t.keyAt(&k.Tuple, k.Iface) }

func (t *KeyTable) keyAt(tuple *packet.Tuple, iface uint32) bpf.FlowKey {
	k := bpf.FlowKey{
		Sport: packet.BE16(tuple.Sport), Dport: packet.BE16(tuple.Dport),
		Iface: uint16(iface), Proto: uint8(tuple.Proto), Family: uint8(tuple.Src.Family()),
	}
	if k.Family == uint8(config.IPv6) {
		words := (*keyWords)(unsafe.Pointer(&k))
		words.hosts = t.digest(&tuple.Src, &tuple.Dst)
	} else {
		k.Src, k.Dst = packet.BE32(tuple.Src), packet.BE32(tuple.Dst)
	}
	return k
}

// digest stands for two IPv6 addresses in a key. It has the strength of the table's hash:
// whoever finds two pairs with one digest can only keep out the second pair's flow, because
// the addresses themselves are compared too. digest in bpf/packet6.h is the same function.
func (t *KeyTable) digest(src, dst *packet.Addr) uint64 {
	s, d := packet.Halves(*src), packet.Halves(*dst)
	h := (s[0] ^ t.Secret[0]) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ s[1]) * 0xd6e8feb86659fd93
	h = (h ^ h>>32 ^ d[0] ^ t.Secret[1]) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ d[1]) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

// addresses are those of a flow in both of its tuples.
type addresses struct {
	orig, reply struct{ src, dst packet.Addr }
}

// WideAddresses holds the addresses of an IPv6 flow: struct wide_addresses of bpf/types.h.
type WideAddresses [8]atomic.Uint64

func (w *WideAddresses) load() (a addresses) {
	to := (*[8]uint64)(unsafe.Pointer(&a))
	for i := range w {
		to[i] = w[i].Load()
	}
	return a
}

func (w *WideAddresses) store(a addresses) {
	from := (*[8]uint64)(unsafe.Pointer(&a))
	for i := range w {
		w[i].Store(from[i])
	}
}

// ShiftWords hold the [packet.Shift] of a shifted flow, and the number of the steer rule that has
// chosen the segment of a greeted one: struct flow_shift of bpf/types.h, which has padding in the
// place of the latter.
type ShiftWords [4]atomic.Uint32

func (w *ShiftWords) load() packet.Shift {
	scales := w[2].Load()
	return packet.Shift{Seq: w[0].Load(), Time: w[1].Load(), ToClient: int8(scales), ToServer: int8(scales >> 8)}
}

func (w *ShiftWords) store(s packet.Shift) {
	w[0].Store(s.Seq)
	w[1].Store(s.Time)
	w[2].Store(uint32(uint8(s.ToClient)) | uint32(uint8(s.ToServer))<<8)
}

func (w *ShiftWords) rule() *atomic.Uint32 { return &w[3] }

// tupleFrom returns the tuple of a key. src and dst are its addresses if it is of IPv6.
func tupleFrom(k *bpf.FlowKey, src, dst packet.Addr) packet.Tuple {
	if k.Family == uint8(config.IPv4) {
		src, dst = packet.AddrFromBE32(k.Src), packet.AddrFromBE32(k.Dst)
	}
	return packet.Tuple{
		Src: src, Dst: dst, Sport: packet.BE16(k.Sport), Dport: packet.BE16(k.Dport), Proto: config.Protocol(k.Proto),
	}
}

// words returns a key as the two words that both sides load and store: the addresses or
// their digest, and then the ports, the iface, the protocol and the family. The second word
// is 0 only if the record has no flow.
func words(k *bpf.FlowKey) *[2]atomic.Uint64 { return (*[2]atomic.Uint64)(unsafe.Pointer(k)) }

// keyWords is a copy of a key in two registers of the CPU.
type keyWords struct{ hosts, rest uint64 }

func (w *keyWords) key() *bpf.FlowKey { return (*bpf.FlowKey)(unsafe.Pointer(w)) }

// load copies a key while programs and goroutines may write it. Each word is consistent; the
// two words may be of different flows, if the goroutine is interrupted more than once meanwhile.
func load(k *bpf.FlowKey) keyWords {
	from := words(k)
	for {
		rest, hosts := from[1].Load(), from[0].Load()
		if from[1].Load() == rest {
			return keyWords{hosts, rest}
		}
	}
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
