// SPDX-License-Identifier: Apache-2.0

// What an IPv6 packet that comes in at a NIC is to the bridge. The NIC's program of the
// kernel path (bridge.c) and the filter of the NIC's packet socket (letin.c) share this.
#pragma once

#include <linux/ipv6.h>

#include "address6.h"
#include "limit.h"

// How many extension headers of a packet are looked at: maxHeaders in ipv6.go.
#define MAX_EXTENSIONS 8

// What is read of a packet.
struct arrival6 {
	struct ipv6hdr ip __attribute__((aligned(8)));	// whose addresses are read by 8 bytes
	bool query;		// it is a query of MLD
	__u8 icmp_type;		// if ICMPv6 follows the IPv6 header, else 0, which is reserved
};

static __always_inline const __u64 *src_of(const struct arrival6 *p)
{
	return (const void *)&p->ip.saddr;
}

static __always_inline const __u64 *dst_of(const struct arrival6 *p)
{
	return (const void *)&p->ip.daddr;
}

// Whether a message to this address may be for the bridge's link-local address, which DAD
// chooses after the programs are loaded, or for all nodes: it is link-local, a
// solicited-node group (RFC 4291 §2.7.1) or ff02::1.
static __always_inline bool may_hear(const __u64 a[2])
{
	const __be32 *x = (const void *)a;

	if (is_link_local(a))
		return true;
	if (x[0] != bpf_htonl(0xff020000) || x[1])
		return false;
	return (!x[2] && x[3] == bpf_htonl(1)) ||
	       (x[2] == bpf_htonl(1) && (x[3] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000));
}

// Reads a packet. `at` is the offset of its header. Returns false if the header is truncated.
static __always_inline bool read_ipv6(struct __sk_buff *skb, __u32 at, struct arrival6 *p)
{
	__u8 options[9];	// the router alert with its padding (RFC 3810 §5), and a type

	p->query = false;
	p->icmp_type = 0;
	if (bpf_skb_load_bytes(skb, at, &p->ip, sizeof(p->ip)))
		return false;
	at += sizeof(p->ip);
	if (p->ip.nexthdr == IPPROTO_ICMPV6) {
		if (bpf_skb_load_bytes(skb, at, &p->icmp_type, sizeof(p->icmp_type)))
			p->icmp_type = 0;
	} else if (p->ip.nexthdr == IPPROTO_HOPOPTS && !bpf_skb_load_bytes(skb, at, options, sizeof(options))) {
		p->query = options[0] == IPPROTO_ICMPV6 && !options[1] && options[8] == ICMPV6_MLD_QUERY;
	}
	return true;
}

// Whether the packet is a message of NDP, or a query of MLD.
static __always_inline bool is_message(const struct arrival6 *p)
{
	return p->query || (p->ip.hop_limit == NDP_HOP_LIMIT && p->icmp_type >= ICMPV6_NDP_FIRST &&
			    p->icmp_type <= ICMPV6_NDP_LAST);
}

// Reads a neighbour solicitation or advertisement. Returns false if the message is another
// one, or truncated.
static __always_inline bool read_ndp(struct __sk_buff *skb, __u32 at, const struct arrival6 *p, struct ndp *m)
{
	return (p->icmp_type == ICMPV6_SOLICITATION || p->icmp_type == ICMPV6_ADVERTISEMENT) &&
	       !bpf_skb_load_bytes(skb, at + sizeof(p->ip), m, sizeof(*m));
}

// The host of which a message tells: an advertisement is about its target.
static __always_inline void subject(__u64 host[2], const struct arrival6 *p, const struct ndp *m)
{
	copy_address(host, p->icmp_type == ICMPV6_ADVERTISEMENT ? m->target : src_of(p));
}

// The kind of a solicitation or advertisement for the holder of a pseudo address, or
// MESSAGE_KINDS if the message does not concern it. sender is what the caller knows of the
// message's subject: MESSAGE_GATEWAY, MESSAGE_NEIGHBOUR or MESSAGE_ANYBODY.
static __always_inline enum message_kind ndp_kind(const struct arrival6 *p, const struct ndp *m,
						  const __u64 pseudo[2], enum message_kind sender)
{
	bool about_us = same_address(m->target, pseudo), link_local = is_link_local(m->target);

	if (p->icmp_type == ICMPV6_SOLICITATION && !about_us && !link_local)
		return MESSAGE_KINDS;
	if (sender == MESSAGE_GATEWAY)
		return MESSAGE_GATEWAY;
	if (p->icmp_type == ICMPV6_ADVERTISEMENT && same_address(dst_of(p), pseudo))
		return MESSAGE_ANSWER;
	if (sender == MESSAGE_NEIGHBOUR)
		return MESSAGE_NEIGHBOUR;
	if (about_us)
		return MESSAGE_ANYBODY;
	return link_local ? MESSAGE_LINK_LOCAL : MESSAGE_KINDS;
}

// The kind of a message that is no solicitation or advertisement.
static __always_inline enum message_kind other_kind(const struct arrival6 *p)
{
	return p->query ? MESSAGE_MLD : MESSAGE_IGNORED;
}

// Whether the programs of the kernel path could carry the packet.
static __always_inline bool is_plain(const struct arrival6 *p)
{
	if (p->ip.version != 6)
		return false;
	return p->ip.nexthdr == IPPROTO_TCP || p->ip.nexthdr == IPPROTO_UDP ||
	       p->icmp_type == ICMPV6_ECHO_REQUEST || p->icmp_type == ICMPV6_ECHO_REPLY;
}

// Reads the fragment header of a packet. Returns false if the packet has none.
static __always_inline bool read_fragment(struct __sk_buff *skb, __u32 at, const struct arrival6 *p, struct fragment6 *f)
{
	__u8 next = p->ip.nexthdr;

	at += sizeof(p->ip);
	for (__u64 i = 0; i < MAX_EXTENSIONS; i++) {
		struct extension e;

		if (next == IPPROTO_FRAGMENT)
			return !bpf_skb_load_bytes(skb, at, f, sizeof(*f));
		if ((next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS) ||
		    bpf_skb_load_bytes(skb, at, &e, sizeof(e)))
			return false;
		next = e.next;
		at += 8 * (1 + e.length);
	}
	return false;
}

// A hash of the fields that identify a datagram (RFC 8200 §4.5). With the secret, no sender
// can choose the hash.
static __always_inline __u32 lead6(const struct arrival6 *p, __be32 id, __u64 secret)
{
	const __u64 *words = src_of(p);	// and the destination
	__u64 h = (secret ^ id) * 0x9e3779b97f4a7c15ULL;

	for (int i = 0; i < 4; i++) {
		h = (h ^ words[i]) * 0xd6e8feb86659fd93ULL;
		h ^= h >> 32;
	}
	return h;
}

// spend_odd for IPv6.
static __always_inline bool spend_odd6(struct __sk_buff *skb, __u32 at, const struct arrival6 *p,
				       struct budget *odd, struct budget *strays, __u64 secret)
{
	__u32 part = 0, lead = 0;
	struct fragment6 f;

	if (read_fragment(skb, at, p, &f)) {
		part = (f.offset & IP6_MORE ? PART_MORE : 0) | (f.offset & IP6_LATER ? PART_LATER : 0);
		lead = lead6(p, f.id, secret);
	}
	return spend_odd(odd, strays, part, lead);
}
