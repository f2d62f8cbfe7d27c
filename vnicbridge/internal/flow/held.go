package flow

import (
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// Held tells the programs what the bridge holds of a client that has not named a site yet: struct
// held of bpf/types.h. Of what they drop then, as it only comes again, nothing reaches userspace.
type Held struct {
	key      bpf.FlowKey
	from, to atomic.Uint32 // sequence numbers
	ack      atomic.Uint32
	_        uint32
}

// HeldSlots is how many clients the programs can know of, by a hash of their key.
const HeldSlots = 1 << 15

// Hold tells the programs, if there are any, that the bridge holds what a client has sent by segments
// with the acknowledgment number ack: the bytes from the sequence number from up to the one before to.
// If they knew that of another client with the same hash, they forget it.
func (t *Table) Hold(client Key, from, to, ack uint32) {
	if len(t.Held) == 0 {
		return
	}
	key := t.KeyOf(client)
	h := t.heldAt(&key)
	words(&h.key)[1].Store(0)
	h.from.Store(from)
	h.to.Store(to)
	h.ack.Store(ack)
	store(&h.key, key)
}

// Release undoes Hold.
func (t *Table) Release(client Key) {
	if len(t.Held) == 0 {
		return
	}
	key := t.KeyOf(client)
	if h := t.heldAt(&key); load(&h.key) == *(*keyWords)(unsafe.Pointer(&key)) {
		words(&h.key)[1].Store(0)
	}
}

func (t *Table) heldAt(key *bpf.FlowKey) *Held { return &t.Held[t.hash(key)&uint64(len(t.Held)-1)] }
