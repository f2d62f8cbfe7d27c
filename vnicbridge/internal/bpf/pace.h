// SPDX-License-Identifier: Apache-2.0

// The limit of a segment on its rate: flow/pace.go does the same. Only userspace holds packets
// back, so programs leave packets that must wait to userspace.
#pragma once

#include "maps.h"

// The ways of packets: OutOfSegment and IntoSegment in counters.go.
#define OUT_OF_SEGMENT 0
#define INTO_SEGMENT 1

#define BYTE_COST_SHIFT 16

// How long the rate must have sufficed before a program sends packets itself again, in ns: the
// last that waited in userspace have left by then, so that none is overtaken.
#define PACE_GUARD 5000000LL

static __always_inline struct limit *rate_at(__u32 number)
{
	return number ? bpf_map_lookup_elem(&limits, &number) : NULL;
}

// What a packet takes of a rate, in ns.
static __always_inline __s64 cost_of(const struct limit *l, __u32 size)
{
	return l->byte_cost * size >> BYTE_COST_SHIFT;
}

// Whether the rate suffices for another packet: KEEP, SLOW if it must wait, or DROP_LIMIT if too
// many wait already. So small packets still find room when large ones have filled the queue.
static __always_inline int may_depart(struct limit *l, __u32 way, __s64 now, __u32 size)
{
	__s64 wait = l->used[way] - now;

	if (wait > 0 && wait + cost_of(l, size) > l->queue) {
		__sync_fetch_and_add(&l->refused, 1);
		return DROP_LIMIT;
	}
	return wait > -PACE_GUARD ? SLOW : KEEP;
}

static __always_inline void spend_rate(struct limit *l, __u32 way, __s64 now, __u32 size)
{
	__s64 earliest = now - l->burst;

	if (l->used[way] < earliest)
		l->used[way] = earliest;
	__sync_fetch_and_add(&l->used[way], cost_of(l, size));
}

// Takes a packet from the rates of the segments at both ends of its flow, by the numbers of
// their limits: may_depart. size is the bytes of its IP packets.
__noinline int pace(__u32 from, __u32 to, __u32 size)
{
	struct limit *out = rate_at(from), *in = rate_at(to);
	__s64 now = bpf_ktime_get_ns() - plane.began;
	int verdict = KEEP;

	if (out)
		verdict = may_depart(out, OUT_OF_SEGMENT, now, size);
	if (in && verdict == KEEP)
		verdict = may_depart(in, INTO_SEGMENT, now, size);
	if (verdict != KEEP)
		return verdict;
	if (out)
		spend_rate(out, OUT_OF_SEGMENT, now, size);
	if (in)
		spend_rate(in, INTO_SEGMENT, now, size);
	return KEEP;
}
