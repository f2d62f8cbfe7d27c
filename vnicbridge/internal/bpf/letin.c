//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// The filter of a NIC's packet socket: it selects what reaches the userspace path. It
// rate-limits the packets that only userspace can carry, as the NIC's program of the kernel
// path does. So a flood of them costs userspace nothing, and the kernel a drop each.
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "arrival6.h"

#define LET_IN 0x7fffffff	// the whole frame: wholeFrame of packetsocket_linux.go
#define KEEP_OUT 0

// Go sets these before it loads the program.
volatile const __be32 pseudo;	// the pseudo address; 0: none
volatile const __u64 pseudo6[2];	// that of IPv6; all 0: none
volatile const __u64 secret;	// of the hashes in lead_of and lead6

// The only variable, so that Go can read it as a whole.
struct let_in_state state;

// The hosts to which frames go, by their addresses: MESSAGE_NEIGHBOUR or MESSAGE_GATEWAY. An
// IPv4 address is mapped into IPv6. Go sets the size of the map.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64[2]);
	__type(value, enum message_kind);
} hosts SEC(".maps");

static __always_inline int keep_out(struct __sk_buff *skb, struct tally *t)
{
	__sync_fetch_and_add(&t->packets, 1);
	__sync_fetch_and_add(&t->bytes, skb->len);
	return KEEP_OUT;
}

// What is known of a host: arp_kind and ndp_kind take it.
static __always_inline enum message_kind known(const __u64 address[2])
{
	enum message_kind *kind = bpf_map_lookup_elem(&hosts, address);

	return kind ? *kind : MESSAGE_ANYBODY;
}

static __always_inline int let_in_message(struct __sk_buff *skb, struct budget *budgets, enum message_kind kind)
{
	if (kind >= MESSAGE_KINDS)
		return keep_out(skb, &state.others);
	if (!spend_message(&budgets[kind]))
		return keep_out(skb, &state.overload);
	return LET_IN;
}

static __always_inline int let_in_arp(struct __sk_buff *skb, __u32 at)
{
	enum message_kind kind = MESSAGE_ANYBODY;	// of a truncated message too, which userspace counts
	__be32 sender[4] __attribute__((aligned(8))) = { 0, 0, bpf_htonl(0xffff) };
	struct arp m;

	if (!pseudo)
		return KEEP_OUT;
	if (!bpf_skb_load_bytes(skb, at, &m, sizeof(m))) {
		sender[3] = m.sender;
		kind = arp_kind(&m, pseudo, known((const void *)sender));
	}
	return let_in_message(skb, state.arp, kind);
}

// Whether the programs of the kernel path could carry the packet.
static __always_inline bool is_common(struct __sk_buff *skb, __u32 at, const struct iphdr *ip)
{
	__u8 type;

	if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & (IP_MORE | IP_LATER))
		return false;
	switch (ip->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return true;
	case IPPROTO_ICMP:
		return !bpf_skb_load_bytes(skb, at + sizeof(*ip), &type, 1) &&
		       (type == ICMP_ECHO_REQUEST || type == ICMP_ECHO_REPLY);
	}
	return false;
}

static __always_inline __u32 lead_of(const struct iphdr *ip)
{
	__u64 id = (__u64)ip->saddr << 32 | (__u32)ip->protocol << 16 | ip->id;

	return (id ^ secret) * 0x9e3779b97f4a7c15ULL >> 40;
}

static __always_inline int let_in_ip(struct __sk_buff *skb, __u32 at)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.daddr != pseudo || !pseudo)
		return KEEP_OUT;
	if (is_common(skb, at, &ip) || spend_odd(&state.odd, &state.strays, part_of(&ip), lead_of(&ip)))
		return LET_IN;
	return keep_out(skb, &state.overload);
}

static __always_inline int let_in_ndp(struct __sk_buff *skb, __u32 at, const struct arrival6 *p, const __u64 us[2])
{
	enum message_kind kind = other_kind(p);
	struct ndp m;
	__u64 host[2];

	if (read_ndp(skb, at, p, &m)) {
		subject(host, p, &m);
		kind = ndp_kind(p, &m, us, known(host));
	}
	return let_in_message(skb, state.ndp, kind);
}

static __always_inline int let_in_ipv6(struct __sk_buff *skb, __u32 at)
{
	__u64 us[2] = { pseudo6[0], pseudo6[1] };
	struct arrival6 p;
	bool to_us;

	if (!(us[0] | us[1]) || !read_ipv6(skb, at, &p))
		return KEEP_OUT;
	to_us = same_address(dst_of(&p), us);
	if (is_message(&p) && (to_us || may_hear(dst_of(&p))))
		return let_in_ndp(skb, at, &p, us);
	if (!to_us)
		return KEEP_OUT;
	if (is_plain(&p) || spend_odd6(skb, at, &p, &state.odd, &state.strays, secret))
		return LET_IN;
	return keep_out(skb, &state.overload);
}

// Lets in packets for the pseudo addresses, ARP, NDP and queries of MLD. Frames for other
// hosts, and frames that this machine sends, stay out uncounted.
SEC("socket")
int let_in(struct __sk_buff *skb)
{
	__u32 at = sizeof(struct ethhdr);
	__be16 proto;
	struct tag tag;

	if (skb->pkt_type > PACKET_MULTICAST || bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &proto, sizeof(proto)))
		return KEEP_OUT;
	if (proto == ETH_VLAN || proto == ETH_QINQ) {
		if (bpf_skb_load_bytes(skb, at, &tag, sizeof(tag)) || tag.control & bpf_htons(VLAN_ID))
			return KEEP_OUT;
		proto = tag.proto;
		at += sizeof(tag);
	}
	if (proto == ETH_ARP)
		return let_in_arp(skb, at);
	if (proto == ETH_IPV6)
		return let_in_ipv6(skb, at);
	return proto == ETH_IPV4 ? let_in_ip(skb, at) : KEEP_OUT;
}

// License in bpf.go.
char _license[] SEC("license") = "Apache-2.0";
