// SPDX-License-Identifier: Apache-2.0

// Opening a flow whose ends are known: its record and its keys. table.go does the same in userspace.
#pragma once

#include "flowlimit.h"
#include "flow.h"
#include "packet6.h"

#define TIME_WAIT (60000000000ULL >> 26)	// TimeWait in quarantine.go, in 2^26 ns

static __always_inline void count_new(__u32 iface)
{
	struct counters *c = bpf_map_lookup_elem(&counts, &iface);
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);

	if (c)
		c->new_flows++;
	if (!g)
		return;
	__sync_fetch_and_add(&g->load, 1);
	spend_new(limits_of(g));
}

static __always_inline void count_flow(__u32 iface, __s64 n)
{
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);

	if (g)
		__sync_fetch_and_add(&g->flows, n);
}

static __always_inline void count_flows(const struct flow_key *orig, const struct flow_key *reply, __s64 n)
{
	count_flow(orig->iface, n);
	count_flow(reply->iface, n);
}

// Reserves a place in the table for a flow. There are never more flows than the limit.
static __always_inline bool reserve(void)
{
	if (__sync_fetch_and_add(&plane.flows, 1) < plane.limit)
		return true;
	__sync_fetch_and_add(&plane.flows, -1);
	return false;
}

static __always_inline void unreserve(void)
{
	__sync_fetch_and_add(&plane.flows, -1);
}

// Sets the state of a record to that of a flow that begins with this packet. The exchange of
// the flags is a full barrier on every CPU. So if Go's sweep sees the new flags, or the keys
// that a new record gets next, it also sees the rest of the new state.
//
// counted is FLOW_COUNTED if the record's flow before was the same client's, and is counted.
static __always_inline void begin(struct flow_record *r, __u32 number, const struct packet *p, __u32 counted)
{
	struct flow_traffic *t = answers_of(number);
	bool picked_up = !begins(p);

	r->state.last_seen = plane.clock;
	r->state.windows[FORWARD] = r->state.windows[BACKWARD] = picked_up ? MAX_SCALE : 0;
	r->sent.count = r->sent.ack = 0;
	r->sent.next = p->next;
	if (t) {
		t->count = t->ack = 0;
		// If picked up: the other side has sent what this packet acknowledges.
		t->next = picked_up ? p->ack : 0;
	}
	__sync_lock_test_and_set(&r->state.flags, (picked_up ? FLOW_PICKED_UP : 0) | counted);
}

// Ends the flow of a record that has lost its original key, except that the flow keeps its reply key.
// NOT_FOUND: there is none.
static __always_inline void end_superseded(__u32 old)
{
	struct flow_record *r = old == NOT_FOUND ? NULL : record_of(old);
	__u32 flags;

	if (!r)
		return;
	flags = __sync_fetch_and_or(&r->state.flags, FLOW_SUPERSEDED);
	if (!(flags & FLOW_SUPERSEDED)) {
		count_flows(&r->orig, &r->reply, -1);
		uncount_client(r, old, flags);
		unreserve();
	}
}

// Claims the original key for a flow whose reply key is claimed. old is the record of the
// closed flow that has the key now, or NOT_FOUND; that flow is superseded.
static __always_inline int claim_original(const struct flow_key *orig, __u32 number, __u32 old)
{
	if (point(orig, old, number) != KEEP)
		return SLOW;
	end_superseded(old);
	return KEEP;
}

// Supersedes a closed flow in favour of one that userspace opens later. old is its record, or
// NOT_FOUND. SLOW: userspace must do it.
static __always_inline int supersede(const struct flow_key *orig, __u32 old)
{
	if (old == NOT_FOUND)
		return KEEP;
	if (unpoint(orig, old) != KEEP)
		return SLOW;
	end_superseded(old);
	return KEEP;
}

// Takes a free record: the one freed last, which may still be in the caches, or else one
// that was never used.
static __always_inline int take(__u32 *number)
{
	if (!bpf_map_pop_elem(&spare, number))
		return KEEP;
	if (plane.fresh >= plane.capacity)
		return SLOW;
	*number = __sync_fetch_and_add(&plane.fresh, 1);
	return *number < plane.capacity ? KEEP : SLOW;
}

// Frees a record to which no key points.
static __always_inline void give_back(struct flow_record *record, __u32 number)
{
	words(&record->orig)[1] = 0;
	words(&record->reply)[1] = 0;
	bpf_map_push_elem(&spare, &number, BPF_ANY);
}

// Whether the record of a superseded flow is no longer needed, because the server does not
// remember the flow.
static __always_inline bool forgotten(const struct flow_record *r)
{
	__u32 flags = r->state.flags;

	return flags & FLOW_SUPERSEDED &&
	       (!(flags & FLOW_ACCEPTED) || plane.clock - r->state.last_seen >= TIME_WAIT);
}

// Whether a record's IPv6 flow has these addresses.
static __always_inline bool has_addresses(__u32 number, const struct wide_addresses *a)
{
	struct wide_addresses *w = bpf_map_lookup_elem(&wide, &number);

	return w && same_pair(&w->orig, &a->orig) && same_pair(&w->reply, &a->reply);
}

static __always_inline void set_addresses(__u32 number, const struct wide_addresses *a)
{
	struct wide_addresses *w = bpf_map_lookup_elem(&wide, &number);

	if (w)
		*w = *a;
}

// Opens a flow whose reply key is taken, which is possible only if a flow with both keys, and
// so of the same client, is over: its record is used for the new flow. DROP_NO_TUPLE: the
// reply key belongs to another flow.
static __always_inline int revive(const struct packet *p, __u32 value, __u32 old, struct found *f,
				  const struct wide_addresses *a)
{
	struct flow_record *r;

	f->number = value & ~REVERSE;
	r = record_of(f->number);
	if (!r)
		return SLOW;
	if (!(value & REVERSE) || !same_key(&r->orig, &p->key) || !same_key(&r->reply, &f->answer) ||
	    (a && !has_addresses(f->number, a)))
		return forgotten(r) ? SLOW : DROP_NO_TUPLE;
	if (!(r->state.flags & FLOW_SUPERSEDED) && !closed_for_both(r->state.flags))
		return SLOW;
	if (f->number == old) {
		begin(r, f->number, p, r->state.flags & FLOW_COUNTED);
		return KEEP;
	}
	// The record's flow is over, but it is not the last flow with this tuple, which is old.
	if (!reserve())
		return SLOW;
	if (claim_original(&p->key, f->number, old) != KEEP) {
		unreserve();
		return SLOW;
	}
	if (r->state.flags & FLOW_SUPERSEDED)
		count_flows(&p->key, &f->answer, 1);
	else
		unreserve();	// the record's flow already counts
	begin(r, f->number, p, r->state.flags & FLOW_COUNTED);
	return KEEP;
}

// Writes a flow into a free record, and makes both keys point to it. The reply key comes
// first, because only the reply key can belong to another client.
static __always_inline int fill(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	struct flow_record *r;
	__u32 number;

	if (take(&number) != KEEP)
		return SLOW;
	r = record_of(number);
	if (!r)
		return SLOW;
	f->number = number;
	words(&r->orig)[0] = words(&p->key)[0];
	words(&r->reply)[0] = words(&f->answer)[0];
	if (a)
		set_addresses(number, a);
	begin(r, f->number, p, 0);
	words(&r->orig)[1] = words(&p->key)[1];
	words(&r->reply)[1] = words(&f->answer)[1];
	if (point(&f->answer, NOT_FOUND, number | REVERSE) != KEEP) {
		give_back(r, number);
		return SLOW;
	}
	if (claim_original(&p->key, number, old) != KEEP) {
		unpoint(&f->answer, number | REVERSE);
		give_back(r, number);
		return SLOW;
	}
	count_flows(&p->key, &f->answer, 1);
	return KEEP;
}

// Whether a key may be in quarantine. It may also be another key with the same hash, which
// only Go can tell.
static __always_inline bool quarantined(const struct flow_key *key)
{
	__u64 *until;
	__u32 i;

	if ((__s32)(plane.quarantine - plane.clock) <= 0)
		return false;
	i = place_of(key).print >> 1 & (QUARANTINE - 1);
	until = bpf_map_lookup_elem(&quarantine, &i);
	return until && (__s32)((__u32)*until - plane.clock) > 0;
}

// Opens a new flow with a reply key that no flow has. SLOW: the table is full, so userspace
// must evict flows (L1).
//
// Go puts a key into quarantine before it removes the key from the table. The reservation is
// a full barrier. So a program that no longer finds the key in the table finds it in
// quarantine.
static __always_inline int create(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	int verdict;

	if (!reserve())
		return SLOW;
	if (p->key.proto == IPPROTO_TCP && quarantined(&f->answer))
		verdict = DROP_NO_TUPLE;
	else
		verdict = fill(p, old, f, a);
	if (verdict != KEEP)
		unreserve();
	return verdict;
}

// Opens the flow of a packet with the reply key f->answer. old is the record of the closed
// flow whose original tuple the packet reuses, or NOT_FOUND. a has the addresses of an IPv6
// flow; NULL: it is IPv4. DROP_NO_TUPLE: another flow has the key, or had it not long ago.
// SLOW: userspace must open the flow.
static __always_inline int open_with(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	__u32 taken = lookup(&f->answer);
	int verdict = room_at(p->key.iface, old != NOT_FOUND);

	if (verdict == KEEP)
		verdict = room_at(f->answer.iface, old != NOT_FOUND);
	if (verdict == KEEP && old == NOT_FOUND)
		verdict = room_for_client(&p->key, &f->answer, a);
	if (verdict == DROP_LIMIT)
		count_refused(p->key.iface, f->answer.iface);
	if (verdict != KEEP)
		return verdict;
	verdict = taken == NOT_FOUND ? create(p, old, f, a) : revive(p, taken, old, f, a);
	f->dir = FORWARD;
	if (verdict == KEEP) {
		count_new(p->key.iface);
		count_new(f->answer.iface);
		count_client(&p->key, &f->answer, a, f->number);
	}
	return verdict;
}

// Opens an IPv4 flow. It is a global function, because the verifier checks a global function
// only once.
__noinline enum drop_reason open_flow(const struct packet *p, __u32 old, struct found *f)
{
	return p && f ? open_with(p, old, f, NULL) : SLOW;
}
