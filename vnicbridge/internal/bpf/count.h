// SPDX-License-Identifier: Apache-2.0

// Counting what the programs send and drop.
#pragma once

#include "maps.h"

static __always_inline struct counters *count_in(__u32 iface, __u32 len)
{
	struct counters *c = bpf_map_lookup_elem(&counts, &iface);

	if (c) {
		c->packets_in++;
		c->bytes_in += len;
	}
	return c;
}

// Counts a packet that is dropped at an iface. It is not inlined, because most packets do not
// need it.
__noinline int count_drop_at(__u32 iface, __u32 len, __u32 reason)
{
	struct counters *c = count_in(iface, len);

	// Without the barrier, the compiler checks the bound of reason - 1, and the verifiers of
	// older kernels do not understand that.
	barrier_var(reason);
	if (c && reason < DROP_REASONS)
		c->drops[reason]++;
	return TC_ACT_SHOT;
}

// Counts a packet that ends here, because nothing of it is needed.
static __always_inline int count_taken(__u32 iface, __u32 len)
{
	count_in(iface, len);
	return TC_ACT_SHOT;
}

static __always_inline int count_drop(__u32 len, __u32 reason)
{
	return count_drop_at(self, len, reason);
}

static __always_inline void count_out(__u32 iface, __u32 len)
{
	struct counters *c = bpf_map_lookup_elem(&counts, &iface);

	if (!c)
		return;
	c->packets_out++;
	c->bytes_out += len;
}
