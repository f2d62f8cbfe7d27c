// SPDX-License-Identifier: Apache-2.0

// How much a NIC may bring to userspace. The NIC's program of the kernel data path
// (bridge.c) and the filter of the NIC's packet socket (letin.c) share these limits.
#pragma once

#include "types.h"
#include "wire.h"

// Packets that no program can carry: 40,000 a second. Large datagrams come in bursts of
// fragments. At most half of the packets may be fragments whose first one has not come.
#define ODD_PACKETS 671
#define ODD_INTERVALS 4

// ARP frames of one kind: 4,000 a second, and as many at once.
#define ARP_PACKETS 68
#define ARP_INTERVALS 60

// How many fragments may follow a first one: those of the largest datagram at an MTU of
// 1500, and some.
#define FOLLOWERS 64

// How many fragments may still follow the first one of a datagram, by a hash of what
// identifies the datagram.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_LEADS);
	__type(key, __u32);
	__type(value, __s32);
} leads SEC(".maps");

// Takes one packet from a budget that grows with each interval of 2^24 ns (17 ms).
// After a pause, the packets of some intervals may come at once. False: the budget is
// used up.
static __always_inline bool spend(struct budget *b, __s32 packets, __u32 intervals)
{
	__u32 interval = bpf_ktime_get_ns() >> 24, passed = interval - b->interval;
	__s32 most = packets * (__s32)intervals, left;

	if (passed) {
		b->interval = interval;
		if (passed > intervals)
			passed = intervals;
		left = b->left + (__s32)passed * packets;
		b->left = left < most ? left : most;
	}
	return b->left > 0 && __sync_fetch_and_add(&b->left, -1) > 0;
}

// Whether a packet is a fragment whose first one has not come. A flood of such fragments
// must not keep out those that come in order. lead is a hash of what identifies the
// datagram.
static __always_inline bool is_stray(const struct iphdr *ip, __u32 lead)
{
	__s32 *left;

	if (!(ip->frag_off & (IP_MORE | IP_LATER)))
		return false;
	lead &= MAX_LEADS - 1;
	left = bpf_map_lookup_elem(&leads, &lead);
	if (!left)
		return false;
	if (!(ip->frag_off & IP_LATER)) {
		*left = FOLLOWERS;
		return false;
	}
	if (*left <= 0)
		return true;
	if (ip->frag_off & IP_MORE)
		__sync_fetch_and_add(left, -1);
	else
		*left = 0;
	return false;
}

// Takes a packet that no program can carry from its budgets.
static __always_inline bool spend_odd(struct budget *odd, struct budget *strays, const struct iphdr *ip, __u32 lead)
{
	if (is_stray(ip, lead) && !spend(strays, ODD_PACKETS / 2, ODD_INTERVALS))
		return false;
	return spend(odd, ODD_PACKETS, ODD_INTERVALS);
}

// What an ARP message is to the holder of a pseudo address. sender is what is known of
// its sender: ARP_GATEWAY, ARP_NEIGHBOUR or ARP_ANYBODY. ARP_KINDS: it is nothing to us.
static __always_inline enum arp_kind arp_kind(const struct arp *m, __be32 pseudo, enum arp_kind sender)
{
	if (m->hardware != ARP_ETHERNET || m->protocol != ETH_IPV4 || m->hardware_length != 6 ||
	    m->protocol_length != 4 || (m->operation != ARP_REQUEST && m->operation != ARP_REPLY))
		return ARP_ANYBODY;	// userspace finds that it is malformed
	if (sender == ARP_GATEWAY)
		return ARP_GATEWAY;
	if (m->target == pseudo && m->operation == ARP_REPLY)
		return ARP_ANSWER;
	if (sender == ARP_NEIGHBOUR)
		return ARP_NEIGHBOUR;
	return m->target == pseudo || m->sender == pseudo ? ARP_ANYBODY : ARP_KINDS;
}
