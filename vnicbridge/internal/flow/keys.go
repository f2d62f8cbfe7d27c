package flow

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// KeyTable is the hash table of the flows' keys. bpf/table.h explains its structure. The
// programs may change the same memory at the same time.
type KeyTable struct {
	Near, Far []Bucket // powers of two
	Records   []bpf.FlowRecord
	Secret    [2]uint64 // of the hash
}

// Bucket has the layout of bpf.Bucket, with atomic fields.
type Bucket struct {
	lock, displaced atomic.Uint32
	slots           [bpf.Slots]atomic.Uint64
}

// notFound is the value of a key that is not in the table.
const notFound = 0xffffffff

// farBuckets is how many far buckets a key can be in.
const farBuckets = 4

// keyPlace holds the buckets that a key can be in.
type keyPlace struct {
	home  *Bucket
	far   [farBuckets]*Bucket
	print uint32 // the part of the hash that the key's slot contains; never 0
}

// hash is the hash of place_of in bpf/table.h.
func (t *KeyTable) hash(key *bpf.FlowKey) uint64 {
	words := (*keyWords)(unsafe.Pointer(key))
	h := (words.hosts ^ t.Secret[0]) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ words.rest ^ t.Secret[1]) * 0xd6e8feb86659fd93
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

func (t *KeyTable) place(key *bpf.FlowKey) keyPlace {
	h := t.hash(key)
	p := keyPlace{home: &t.Near[uint32(h)&uint32(len(t.Near)-1)], print: uint32(h>>32) | 1}
	for i := range p.far {
		p.far[i] = &t.Far[(uint32(h)+uint32(i)*p.print)&uint32(len(t.Far)-1)]
	}
	return p
}

func (p keyPlace) slot(value uint32) uint64 { return uint64(p.print)<<32 | uint64(value) }

// value returns what a key points to: the number of a record, with bpf.Reverse set if the
// key is the record's reply key. It returns notFound if the key is not in the table.
func (t *KeyTable) value(key *bpf.FlowKey) uint32 {
	p := t.place(key)
	v := t.look(p.home, p.print, key)
	if v != notFound || p.home.displaced.Load() == 0 {
		return v
	}
	for i, b := range p.far {
		if v = t.look(b, p.print, key); v != notFound || i == 0 && b.displaced.Load() == 0 {
			break
		}
	}
	return v
}

func (t *KeyTable) look(b *Bucket, print uint32, key *bpf.FlowKey) uint32 {
	for i := range b.slots {
		slot := b.slots[i].Load()
		number := uint32(slot) &^ bpf.Reverse
		if uint32(slot>>32) != print || int(number) >= len(t.Records) {
			continue
		}
		own := &t.Records[number].Orig
		if uint32(slot)&bpf.Reverse != 0 {
			own = &t.Records[number].Reply
		}
		if load(own) == *(*keyWords)(unsafe.Pointer(key)) {
			return uint32(slot)
		}
	}
	return notFound
}

// acquire takes the lock of a bucket. It spins, because holders release the lock soon.
func (b *Bucket) acquire() {
	for !b.lock.CompareAndSwap(0, 1) {
		runtime.Gosched()
	}
}

func (b *Bucket) release() { b.lock.Store(0) }

func (b *Bucket) replace(from, to uint64) bool {
	for i := range b.slots {
		if b.slots[i].Load() == from {
			b.slots[i].Store(to)
			return true
		}
	}
	return false
}

// change replaces a slot's content in one of the buckets of a place. A `from` of 0 adds a
// key, a `to` of 0 removes one. The caller holds the lock of the home bucket.
func (p keyPlace) change(from, to uint64) bool {
	if p.home.replace(from, to) {
		return true
	}
	for i, b := range p.far {
		// There is no deadlock with a program that holds this bucket and waits for our
		// home: programs give up after some tries.
		b.acquire()
		done := b.replace(from, to)
		b.release()
		if !done {
			continue
		}
		n := displacement(from, to)
		p.home.displaced.Add(n)
		if i > 0 {
			p.far[0].displaced.Add(n)
		}
		return true
	}
	return false
}

// displacement returns by how much a change of a slot changes the number of displaced keys,
// if the slot is not in the key's first place.
func displacement(from, to uint64) uint32 {
	switch uint64(0) {
	case from:
		return 1
	case to:
		return ^uint32(0)
	}
	return 0
}

// point adds a key that points to a value. It returns false if the table has the key, or
// has no room for it.
func (t *KeyTable) point(key *bpf.FlowKey, value uint32) bool {
	p := t.place(key)
	p.home.acquire()
	defer p.home.release()
	return t.value(key) == notFound && p.change(0, p.slot(value))
}

// unpoint removes a key, if it points to a value.
func (t *KeyTable) unpoint(key *bpf.FlowKey, value uint32) {
	p := t.place(key)
	p.home.acquire()
	defer p.home.release()
	p.change(p.slot(value), 0)
}
