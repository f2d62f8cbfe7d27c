// SPDX-License-Identifier: Apache-2.0

// The limits of a segment on its flows: flow/limits.go does the same.
#pragma once

#include "table.h"

// After a pause, the new flows of this time may begin at once: newBurst in limits.go.
#define NEW_BURST 1000000000LL

// The plane's coarse clock, in ns.
static __always_inline __u64 coarse_now(void)
{
	return (__u64)plane.clock << 26;
}

// How many flows a device has, of both families. g are the gauges of one of its ifaces.
static __always_inline __s64 flows_of(const struct gauges *g)
{
	struct gauges *other = twin_of(g);

	return g->flows + (other ? other->flows : 0);
}

static __always_inline struct limit *limits_of(const struct gauges *g)
{
	__u32 number = g->limit;

	return number ? bpf_map_lookup_elem(&limits, &number) : NULL;
}

// Whether the limits at an iface leave room for a new flow: KEEP, or DROP_LIMIT. SLOW: userspace
// may end one of the segment's flows that came to nothing. again: the flow takes the place of a
// closed one with its tuple, so that there are not more.
__noinline int room_at(__u32 iface, bool again)
{
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);
	struct limit *l = g ? limits_of(g) : NULL;

	if (!l)
		return KEEP;
	if (l->cost && (__s64)(l->spent - coarse_now()) >= 0)
		return DROP_LIMIT;
	if (!l->flows || again)
		return KEEP;
	if (flows_of(g) < l->flows)
		return KEEP;
	return (__s32)(l->full - plane.clock) > 0 ? DROP_LIMIT : SLOW;
}

// Takes a new flow from the rate of new flows.
static __always_inline void spend_new(struct limit *l)
{
	__u64 now = coarse_now();

	if (!l || !l->cost)
		return;
	if ((__s64)(now - l->spent) > NEW_BURST)
		l->spent = now - NEW_BURST;
	__sync_fetch_and_add(&l->spent, l->cost);
}

// The limits at a segment if it limits its clients, and a flow with these keys is a client's.
static __always_inline struct limit *client_limit(const struct flow_key *orig, const struct flow_key *reply)
{
	__u32 from = orig->iface, to = reply->iface;
	struct gauges *g = bpf_map_lookup_elem(&meters, &to);
	struct limit *l = g ? limits_of(g) : NULL;
	struct iface *in;

	if (!l || !l->per_client)
		return NULL;
	in = bpf_map_lookup_elem(&ifaces, &from);
	return in && in->nic ? l : NULL;
}

// What tells clients apart: an IPv4 address, or the /64 of an IPv6 address.
static __always_inline __u64 client_of(const struct flow_key *orig, const struct wide_addresses *a)
{
	return a ? a->orig.src[0] : orig->src;
}

// The hash that places the counts of a client at a segment: Table.clientHash in clients.go.
static __always_inline __u64 client_hash(__u64 client, __u32 iface)
{
	__u64 h = (client ^ plane.table_key[0]) * 0x9e3779b97f4a7c15ULL;

	h = (h ^ h >> 32 ^ iface ^ plane.table_key[1]) * 0xd6e8feb86659fd93ULL;
	return h ^ h >> 32;
}

static __always_inline struct client_counts *client_counts_at(__u64 hash, __u32 row)
{
	__u32 i = ((__u32)hash + row * (__u32)(hash >> 32)) & (CLIENT_COUNTS - 1);

	return bpf_map_lookup_elem(&clients, &i);
}

// How many flows the client with a hash has, at most.
static __always_inline __s32 flows_of_client(__u64 hash)
{
	__s32 least = 0x7fffffff;

	for (__u64 row = 0; row < CLIENT_ROWS; row++) {
		struct client_counts *c = client_counts_at(hash, row);

		if (c && c->row[row] < least)
			least = c->row[row];
	}
	return least;
}

static __always_inline void add_client(__u64 hash, __s32 n)
{
	for (__u64 row = 0; row < CLIENT_ROWS; row++) {
		struct client_counts *c = client_counts_at(hash, row);

		if (c)
			__sync_fetch_and_add(&c->row[row], n);
	}
}

// Whether a client may have another flow: KEEP or DROP_LIMIT.
__noinline int room_for_client(const struct flow_key *orig, const struct flow_key *reply, const struct wide_addresses *a)
{
	struct limit *l;

	if (!orig || !reply)
		return KEEP;
	l = client_limit(orig, reply);
	if (!l || flows_of_client(client_hash(client_of(orig, a), reply->iface)) < (__s32)l->per_client)
		return KEEP;
	return DROP_LIMIT;
}

// Counts a packet from a NIC that would have begun a flow beyond a limit of a segment. Packets
// from a segment go to userspace, which counts them.
__noinline int count_refused(__u32 nic, __u32 vnic)
{
	struct iface *in = bpf_map_lookup_elem(&ifaces, &nic);
	struct gauges *g = bpf_map_lookup_elem(&meters, &vnic);
	struct limit *l = g ? limits_of(g) : NULL;

	if (in && in->nic && l)
		__sync_fetch_and_add(&l->refused, 1);
	return 0;
}

// Counts a flow that has begun among those of its client, unless it is counted already.
static __always_inline void count_client(const struct flow_key *orig, const struct flow_key *reply, const struct wide_addresses *a,
					 __u32 number)
{
	struct flow_record *r;

	if (!client_limit(orig, reply))
		return;
	r = record_of(number);
	if (r && !(__sync_fetch_and_or(&r->state.flags, FLOW_COUNTED) & FLOW_COUNTED))
		add_client(client_hash(client_of(orig, a), reply->iface), 1);
}

// Takes a flow that is over or closing from those of its client. flags are the flow's.
static __always_inline void uncount_client(struct flow_record *r, __u32 number, __u32 flags)
{
	struct wide_addresses *a = NULL;

	if (!(flags & FLOW_COUNTED))
		return;
	if (r->orig.family == FAMILY_IPV6) {
		a = bpf_map_lookup_elem(&wide, &number);
		if (!a)
			return;
	}
	if (__sync_fetch_and_and(&r->state.flags, ~FLOW_COUNTED) & FLOW_COUNTED)
		add_client(client_hash(client_of(&r->orig, a), r->reply.iface), -1);
}

// Counts a flow anew whose class has changed: closing flows are not among their client's.
__noinline int recount_client(__u32 number, bool is_closing)
{
	struct flow_record *r = record_of(number);
	struct wide_addresses *a = NULL;

	if (!r)
		return 0;
	if (is_closing) {
		uncount_client(r, number, r->state.flags);
		return 0;
	}
	if (r->orig.family == FAMILY_IPV6)
		a = bpf_map_lookup_elem(&wide, &number);
	if (a || r->orig.family != FAMILY_IPV6)
		count_client(&r->orig, &r->reply, a, number);
	return 0;
}
