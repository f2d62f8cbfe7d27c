// SPDX-License-Identifier: Apache-2.0

// The hash table of the flows' keys. With a million flows, nothing that a packet needs is in
// a cache. So a lookup loads only two cache lines: the bucket and the flow's record. A hash
// map of the kernel would take three, and a system call for each lookup by userspace.
//
// Each key has a home among the near buckets, and a few places among the far buckets, which
// are used if the home is full. The far buckets have room for all keys. The near buckets are
// so few that they stay in the caches, and their pages in the TLB. So a machine with few
// flows pays for few, even if its table has room for a million.
//
// Go and the programs change a bucket under its lock, and read it without the lock. A slot
// only suggests a record: the record's own key tells whether it is the right one. Whoever
// adds or removes a key holds the lock of its home.
#pragma once

#include "maps.h"

// How often a program tries to take a lock. Holders need it only while they look at two
// buckets, but userspace may be interrupted meanwhile.
#define LOCK_TRIES 64

// How many far buckets a key can be in. Even with as many keys as records allow, only one
// far bucket in two hundred is full, so four in a row practically never are.
#define FAR 4

// Loops over the far buckets count in 64 bits. The verifier of Linux 5.15 forgets the bounds
// of 32-bit values on the stack, and then believes that such a loop never ends.

// Where a key can be. The masks are copied here, because the compiler reorders a loop that
// reads them from memory, and the verifiers of kernels such as 6.1 then refuse the loop.
struct place {
	__u32 home;	// index of a near bucket
	__u32 near;	// the number of near buckets, after which the far ones come
	__u32 far;	// the hash that gives the far buckets: see far_of
	__u32 far_mask;
	__u32 print;	// the part of the hash that the key's slot contains
};

static __always_inline struct flow_record *record_of(__u32 number)
{
	return bpf_map_lookup_elem(&records, &number);
}

static __always_inline struct bucket *bucket_at(__u32 index)
{
	return bpf_map_lookup_elem(&buckets, &index);
}

// The gauges of the other family's iface of a device, or NULL.
static __always_inline struct gauges *twin_of(const struct gauges *g)
{
	__u32 twin = g->twin;

	return twin ? bpf_map_lookup_elem(&meters, &twin) : NULL;
}

// A key as the two words that Go and the programs load and store: the addresses, and then
// the ports, the iface and the protocol. The second word is 0 only if the record has no
// flow.
static __always_inline volatile __u64 *words(const struct flow_key *key)
{
	return (void *)key;
}

static __always_inline bool same_key(const struct flow_key *a, const struct flow_key *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1];
}

// The hash has a secret key, but is not cryptographic: nobody outside sees a result.
static __always_inline struct place place_of(const struct flow_key *key)
{
	const __u64 *words = (const void *)key;
	__u64 h = (words[0] ^ plane.table_key[0]) * 0x9e3779b97f4a7c15ULL;
	struct place p;

	h = (h ^ h >> 32 ^ words[1] ^ plane.table_key[1]) * 0xd6e8feb86659fd93ULL;
	h = (h ^ h >> 32) * 0xd6e8feb86659fd93ULL;
	h ^= h >> 32;
	p.print = (__u32)(h >> 32) | 1;	// so a used slot is never 0
	p.home = (__u32)h & plane.near_mask;
	p.near = plane.near_mask + 1;
	p.far = (__u32)h;
	p.far_mask = plane.far_mask;
	return p;
}

// The i-th far bucket of a key.
static __always_inline struct bucket *far_of(const struct place *p, __u32 i)
{
	return bucket_at(p->near + ((p->far + i * p->print) & p->far_mask));
}

// The record that a slot leads to, if it is of a flow with this key.
static __always_inline struct flow_record *match(__u64 slot, __u32 print, const struct flow_key *key)
{
	struct flow_record *r;

	if ((__u32)(slot >> 32) != print)
		return NULL;
	r = record_of((__u32)slot & ~REVERSE);
	if (!r || !same_key((__u32)slot & REVERSE ? &r->reply : &r->orig, key))
		return NULL;
	return r;
}

// The value of a key in one bucket, or NOT_FOUND.
static __always_inline __u32 look(const struct bucket *b, __u32 print, const struct flow_key *key)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < SLOTS; i++) {
		__u64 slot = *(const volatile __u64 *)&b->slot[i];

		if (match(slot, print, key))
			return (__u32)slot;
	}
	return NOT_FOUND;
}

// The value of a key among the far buckets, or NOT_FOUND.
__noinline __u32 look_far(const struct flow_key *key)
{
	struct place p;

	if (!key)
		return NOT_FOUND;
	p = place_of(key);
	for (__u64 i = 0; i < FAR; i++) {
		struct bucket *b = far_of(&p, i);
		__u32 value = b ? look(b, p.print, key) : NOT_FOUND;

		if (value != NOT_FOUND || !b || (!i && !b->displaced))
			return value;
	}
	return NOT_FOUND;
}

// The value of a key: the number of its record, with REVERSE set if the key is the record's
// reply key; or NOT_FOUND.
static __always_inline __u32 lookup(const struct flow_key *key)
{
	struct place p = place_of(key);
	struct bucket *b = bucket_at(p.home);
	__u32 value;

	if (!b)
		return NOT_FOUND;
	value = look(b, p.print, key);
	if (value != NOT_FOUND || !b->displaced)
		return value;
	return look_far(key);
}

static __always_inline bool lock(struct bucket *b)
{
	for (int i = 0; i < LOCK_TRIES; i++)
		if (!__sync_val_compare_and_swap(&b->lock, 0, 1))
			return true;
	return false;
}

static __always_inline void unlock(struct bucket *b)
{
	__sync_lock_test_and_set(&b->lock, 0);
}

static __always_inline bool replace(struct bucket *b, __u64 from, __u64 to)
{
	for (int i = 0; i < SLOTS; i++)
		if (b->slot[i] == from) {
			*(volatile __u64 *)&b->slot[i] = to;
			return true;
		}
	return false;
}

// Replaces a slot's content in one of the buckets of a key. A `from` of 0 adds a key, a `to`
// of 0 removes one. The caller holds the lock of the home bucket.
static __always_inline bool change(struct bucket *home, const struct place *p, __u64 from, __u64 to)
{
	struct bucket *first = far_of(p, 0);
	bool done = replace(home, from, to);
	__u64 i;

	if (done || (from && !home->displaced) || !first)
		return done;
	for (i = 0; i < FAR; i++) {
		struct bucket *b = far_of(p, i);

		if (!b || !lock(b))
			return false;
		done = replace(b, from, to);
		unlock(b);
		if (done || (from && !first->displaced))
			break;
	}
	if (done && !from != !to) {
		home->displaced += to ? 1 : -1;
		if (i)	// atomic, because holders of other homes may change it at once
			__sync_fetch_and_add(&first->displaced, to ? 1 : -1);
	}
	return done;
}

static __always_inline __u64 slot_of(const struct place *p, __u32 value)
{
	return (__u64)p->print << 32 | value;
}

// Makes a key point to a value. old is the value to which it points now, or NOT_FOUND if the
// table does not have the key. SLOW: this is not the case, or the buckets are full, or
// somebody holds a lock for too long.
__noinline int point(const struct flow_key *key, __u32 old, __u32 value)
{
	struct bucket *home;
	int verdict = SLOW;
	struct place p;

	if (!key)
		return SLOW;
	p = place_of(key);
	home = bucket_at(p.home);
	if (!home || !lock(home))
		return SLOW;
	if (old != NOT_FOUND)
		verdict = change(home, &p, slot_of(&p, old), slot_of(&p, value)) ? KEEP : SLOW;
	else if (lookup(key) == NOT_FOUND)
		verdict = change(home, &p, 0, slot_of(&p, value)) ? KEEP : SLOW;
	unlock(home);
	return verdict;
}

// Removes a key that points to a value. SLOW: it does not, or somebody holds the lock for too long.
__noinline int unpoint(const struct flow_key *key, __u32 value)
{
	struct bucket *home;
	int verdict;
	struct place p;

	if (!key)
		return SLOW;
	p = place_of(key);
	home = bucket_at(p.home);
	if (!home || !lock(home))
		return SLOW;
	verdict = change(home, &p, slot_of(&p, value), 0) ? KEEP : SLOW;
	unlock(home);
	return verdict;
}
