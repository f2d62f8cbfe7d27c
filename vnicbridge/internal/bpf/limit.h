// SPDX-License-Identifier: Apache-2.0

// Rate limits of what a NIC may bring to userspace. The NIC's program of the kernel path
// (bridge.c) and the filter of the NIC's packet socket (letin.c) share them.
#pragma once

#include "types.h"
#include "wire.h"

// Packets that only userspace can carry: 40,000 a second. After a pause those of 64 ms may come
// at once, because large datagrams come in bursts of fragments. At most half of the packets may
// be fragments whose first one has not come.
#define ODD_COST 25000
#define ODD_BURST (64 * 1000 * 1000)

// Messages of ARP, NDP and MLD of one kind: 4,000 a second, and as many at once.
#define MESSAGE_COST 250000
#define MESSAGE_BURST (1000 * 1000 * 1000)

// How many fragments may follow a first one: somewhat more than the largest datagram has at
// an MTU of 1500 bytes.
#define FOLLOWERS 64

// How many fragments may still follow the first one of a datagram, by a hash of the fields
// that identify the datagram (RFC 791, RFC 8200 §4.5).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_LEADS);
	__type(key, __u32);
	__type(value, __s32);
} leads SEC(".maps");

// Takes one packet from a budget: `cost` ns of those that have passed since it was used up, and
// of at most `burst` ns. Returns false if there are none.
//
// Time goes in steps of 2^20 ns (1 ms). So userspace finds the packets of a flood in batches,
// and none takes it longer than a part of a millisecond, which is how long others wait for it.
static __always_inline bool spend(struct budget *b, __u64 cost, __u64 burst)
{
	__u64 now = bpf_ktime_get_ns() >> 20 << 20;

	if (b->spent + burst < now)
		b->spent = now - burst;
	return b->spent < now && __sync_fetch_and_add(&b->spent, cost) < now;
}

// Takes a message of ARP, NDP or MLD from the budget of its kind.
static __always_inline bool spend_message(struct budget *b)
{
	return spend(b, MESSAGE_COST, MESSAGE_BURST);
}

// What a packet is of a datagram: 0 if it is the whole.
#define PART_MORE 1	// a fragment that others follow
#define PART_LATER 2	// a fragment other than the first

static __always_inline __u32 part_of(const struct iphdr *ip)
{
	return (ip->frag_off & IP_MORE ? PART_MORE : 0) | (ip->frag_off & IP_LATER ? PART_LATER : 0);
}

// Whether a packet is a fragment whose first one has not come. Such fragments have a limit
// of their own, so that a flood of them does not keep out fragments that come in order.
// lead is a hash of the fields that identify the datagram.
static __always_inline bool is_stray(__u32 part, __u32 lead)
{
	__s32 *left;

	if (!part)
		return false;
	lead &= MAX_LEADS - 1;
	left = bpf_map_lookup_elem(&leads, &lead);
	if (!left)
		return false;
	if (!(part & PART_LATER)) {
		*left = FOLLOWERS;
		return false;
	}
	if (*left <= 0)
		return true;
	if (part & PART_MORE)
		__sync_fetch_and_add(left, -1);
	else
		*left = 0;
	return false;
}

// Takes a packet that only userspace can carry from its budgets. Returns false if one of
// them is used up. part and lead are those of is_stray.
static __always_inline bool spend_odd(struct budget *odd, struct budget *strays, __u32 part, __u32 lead)
{
	if (is_stray(part, lead) && !spend(strays, 2 * ODD_COST, ODD_BURST))
		return false;
	return spend(odd, ODD_COST, ODD_BURST);
}

// The kind of an ARP message for the holder of a pseudo address, or MESSAGE_KINDS if the message
// does not concern it. sender is what the caller knows of the message's sender: MESSAGE_GATEWAY,
// MESSAGE_NEIGHBOUR or MESSAGE_ANYBODY.
static __always_inline enum message_kind arp_kind(const struct arp *m, __be32 pseudo, enum message_kind sender)
{
	if (m->hardware != ARP_ETHERNET || m->protocol != ETH_IPV4 || m->hardware_length != 6 ||
	    m->protocol_length != 4 || (m->operation != ARP_REQUEST && m->operation != ARP_REPLY))
		return MESSAGE_ANYBODY;	// malformed, which userspace counts
	if (sender == MESSAGE_GATEWAY)
		return MESSAGE_GATEWAY;
	if (m->target == pseudo && m->operation == ARP_REPLY)
		return MESSAGE_ANSWER;
	if (sender == MESSAGE_NEIGHBOUR)
		return MESSAGE_NEIGHBOUR;
	return m->target == pseudo || m->sender == pseudo ? MESSAGE_ANYBODY : MESSAGE_KINDS;
}
