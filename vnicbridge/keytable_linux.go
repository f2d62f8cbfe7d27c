package vnicbridge

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// keyTable is the flows' keys in buckets, as bpf/table.h has them: programs and Go
// change the same memory.
type keyTable struct {
	buckets []bucket
	records []bpf.FlowRecord
	secret  [2]uint64
}

// bucket is bpf.Bucket, whose fields all change under other eyes.
type bucket struct {
	lock, displaced atomic.Uint32
	slots           [bpf.Slots]atomic.Uint64
}

// notFound is the value of a key that there is not.
const notFound = 0xffffffff

// otherBuckets is how many buckets a key may be in beside its home.
const otherBuckets = 4

// keyPlace is where a key may be, and what its slots begin with.
type keyPlace struct {
	home   *bucket
	others [otherBuckets]*bucket
	print  uint32
}

func (t *keyTable) place(key *bpf.FlowKey) keyPlace {
	words := (*[2]uint64)(unsafe.Pointer(key))
	h := (words[0] ^ t.secret[0]) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ words[1] ^ t.secret[1]) * 0xd6e8feb86659fd93
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h ^= h >> 32
	mask := uint32(len(t.buckets) - 1)
	print, home := uint32(h>>32)|1, uint32(h)&mask
	p := keyPlace{home: &t.buckets[home], print: print}
	for i := range p.others {
		p.others[i] = &t.buckets[(home+uint32(i+1)*print)&mask]
	}
	return p
}

func (p keyPlace) slot(value uint32) uint64 { return uint64(p.print)<<32 | uint64(value) }

// value is what a key leads to: the number of a record, with bpf.Reverse if it is
// the reply key; or notFound.
func (t *keyTable) value(key *bpf.FlowKey) uint32 {
	p := t.place(key)
	v := t.look(p.home, p.print, key)
	if v != notFound || p.home.displaced.Load() == 0 {
		return v
	}
	for _, other := range p.others {
		if v = t.look(other, p.print, key); v != notFound {
			return v
		}
	}
	return notFound
}

func (t *keyTable) look(b *bucket, print uint32, key *bpf.FlowKey) uint32 {
	for i := range b.slots {
		slot := b.slots[i].Load()
		number := uint32(slot) &^ bpf.Reverse
		if uint32(slot>>32) != print || int(number) >= len(t.records) {
			continue
		}
		own := &t.records[number].Orig
		if uint32(slot)&bpf.Reverse != 0 {
			own = &t.records[number].Reply
		}
		if load(own) == *key {
			return uint32(slot)
		}
	}
	return notFound
}

// acquire takes the lock of a bucket. Who has it is about to give it back.
func (b *bucket) acquire() {
	for !b.lock.CompareAndSwap(0, 1) {
		runtime.Gosched()
	}
}

func (b *bucket) release() { b.lock.Store(0) }

func (b *bucket) replace(from, to uint64) bool {
	for i := range b.slots {
		if b.slots[i].Load() == from {
			b.slots[i].Store(to)
			return true
		}
	}
	return false
}

// change replaces a slot's content in one of the buckets of a place, whose home is
// locked. To replace 0 is to add, to replace by 0 to remove.
func (p keyPlace) change(from, to uint64) bool {
	if p.home.replace(from, to) {
		return true
	}
	for _, other := range p.others {
		if other == p.home {
			continue
		}
		// A program that holds it and wants our home gives up first.
		other.acquire()
		done := other.replace(from, to)
		other.release()
		if !done {
			continue
		}
		if from == 0 {
			p.home.displaced.Add(1)
		}
		if to == 0 {
			p.home.displaced.Add(^uint32(0))
		}
		return true
	}
	return false
}

// point makes a key that there is not lead to a value. False: there is such a key,
// or no room for it.
func (t *keyTable) point(key *bpf.FlowKey, value uint32) bool {
	p := t.place(key)
	p.home.acquire()
	defer p.home.release()
	return t.value(key) == notFound && p.change(0, p.slot(value))
}

// unpoint removes a key, if it leads to a value.
func (t *keyTable) unpoint(key *bpf.FlowKey, value uint32) {
	p := t.place(key)
	p.home.acquire()
	defer p.home.release()
	p.change(p.slot(value), 0)
}
