// SPDX-License-Identifier: Apache-2.0

// IPv6: reading a packet, finding its flow, and rewriting the packet. Packets with extension
// headers go to userspace.
#pragma once

#include <linux/ipv6.h>

#include "address6.h"
#include "flow.h"

#define IPV6_L4_OFFSET (IP_OFFSET + sizeof(struct ipv6hdr))
#define IPV6_HEADERS (IPV6_L4_OFFSET + sizeof(struct tcphdr))	// bytes that are read, at most

static __always_inline bool same_pair(const struct address_pair *a, const struct address_pair *b)
{
	return same_address(a->src, b->src) && same_address(a->dst, b->dst);
}

// The digest of two addresses in a key: digest in record.go.
static __always_inline __u64 digest(const struct address_pair *a)
{
	__u64 h = (a->src[0] ^ plane.table_key[0]) * 0x9e3779b97f4a7c15ULL;

	h = (h ^ h >> 32 ^ a->src[1]) * 0xd6e8feb86659fd93ULL;
	h = (h ^ h >> 32 ^ a->dst[0] ^ plane.table_key[1]) * 0x9e3779b97f4a7c15ULL;
	h = (h ^ h >> 32 ^ a->dst[1]) * 0xd6e8feb86659fd93ULL;
	return h ^ h >> 32;
}

// Whether the address is one of IPv4 that is mapped into IPv6. No packet may have such an
// address, because userspace would take it for IPv4.
static __always_inline bool is_mapped(const __u64 address[2])
{
	const __u32 *words = (const void *)address;

	return !address[0] && words[2] == bpf_htonl(0xffff);
}

static __always_inline void set_wide_key(struct packet *p, const struct address_pair *a, __u8 proto, __be16 sport, __be16 dport)
{
	__u64 *words = (void *)&p->key;

	words[0] = digest(a);
	words[1] = JOIN(__u64, JOIN(__u32, sport, dport), JOIN(__u32, self6, JOIN(__u16, proto, FAMILY_IPV6)));
}

// Reads an echo. Its protocol and type become those of IPv4, which the rest of the program
// knows.
static __always_inline int read_echo6(const struct address_pair *a, const struct echo *icmp, struct packet *p)
{
	if (icmp->type == ICMPV6_ECHO_REQUEST) {
		p->icmp_type = ICMP_ECHO_REQUEST;
		set_wide_key(p, a, IPPROTO_ICMP, icmp->id, 0);
	} else if (icmp->type == ICMPV6_ECHO_REPLY) {
		p->icmp_type = ICMP_ECHO_REPLY;
		set_wide_key(p, a, IPPROTO_ICMP, 0, icmp->id);
	} else {
		return SLOW;
	}
	return KEEP;
}

// Reads the transport header behind an IPv6 header without extension headers. l4_len is the
// length from it to the end of the packet.
static __always_inline int read_transport6(const struct ipv6hdr *ip, void *end, __u32 l4_len, const struct address_pair *a,
					   struct packet *p)
{
	const struct tcphdr *tcp = (const void *)(ip + 1);
	const struct udphdr *udp = (const void *)(ip + 1);
	const struct echo *icmp = (const void *)(ip + 1);

	switch (ip->nexthdr) {
	case IPPROTO_TCP:
		if ((void *)(tcp + 1) > end || tcp->doff < 5 || tcp->doff * 4 > l4_len)
			return SLOW;
		set_wide_key(p, a, IPPROTO_TCP, tcp->source, tcp->dest);
		read_segment(tcp, l4_len, p);
		return KEEP;
	case IPPROTO_UDP:
		if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) > l4_len)
			return SLOW;
		set_wide_key(p, a, IPPROTO_UDP, udp->source, udp->dest);
		return KEEP;
	case IPPROTO_ICMPV6:
		if ((void *)(icmp + 1) > end)
			return SLOW;
		return read_echo6(a, icmp, p);
	}
	return SLOW;
}

// Reads the packet of a frame whose Ethernet type is IPv6.
static __always_inline int read_packet6(struct __sk_buff *skb, struct packet *p, struct address_pair *a)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + IP_OFFSET;
	__u32 l4_len;

	if ((void *)(ip + 1) > end)
		return SLOW;
	__builtin_memcpy(a, &ip->saddr, sizeof(*a));
	l4_len = bpf_ntohs(ip->payload_len);
	if (unlikely(!l4_len) && skb->gso_size && ip->nexthdr == IPPROTO_TCP)
		l4_len = skb->len - IPV6_L4_OFFSET;	// beyond 64 KiB (ipv6_payload_len in include/linux/ipv6.h)
	if (ip->version != 6 || l4_len > skb->len - IPV6_L4_OFFSET || is_mapped(a->src) || is_mapped(a->dst))
		return SLOW;
	p->len = skb->len;
	p->size = sizeof(*ip) + l4_len;
	return read_transport6(ip, end, l4_len, a, p);
}

// Like after, for addresses that were loaded.
static __always_inline const struct flow_key *after_pair(const struct address_pair *loaded, const struct flow_key *key)
{
	return after_words(loaded->src[0] | loaded->src[1] | loaded->dst[0] | loaded->dst[1], key);
}

// Finds the living flow of an IPv6 packet with the addresses a->orig, or returns NULL.
// a->reply becomes the addresses of the packets that answer this one.
//
// find has seen the packet's key in the record. If it is there still after the addresses were
// loaded, they belong to the same flow.
static __always_inline struct flow_record *find6(const struct packet *p, struct found *f, struct wide_addresses *a)
{
	struct flow_record *r = find(&p->key, f);
	struct wide_addresses *w;
	struct flow_key own;

	if (!r)
		return NULL;
	w = bpf_map_lookup_elem(&wide, &f->number);
	if (!w)
		return NULL;
	if (f->dir == FORWARD) {
		if (!same_pair(&w->orig, &a->orig))
			return NULL;
		a->reply = w->reply;
		copy_key(&own, after_pair(&a->reply, &r->orig));
	} else {
		if (!same_pair(&w->reply, &a->orig))
			return NULL;
		a->reply = w->orig;
		copy_key(&own, after_pair(&a->reply, &r->reply));
	}
	return same_key(&own, &p->key) ? r : NULL;
}

// The MAC of the next hop to a host behind a NIC, or NULL if userspace must send the packet: next_hop
// for IPv6.
static __always_inline const __u8 *next_hop6(const __u64 host[2], __u32 iface, const struct iface *nic)
{
	struct neighbour_key6 key = { .address = { host[0], host[1] }, .iface = iface };
	bool on_link = !(((host[0] ^ nic->network6[0]) & nic->mask6[0]) | ((host[1] ^ nic->network6[1]) & nic->mask6[1]));
	struct neighbour *n;

	if (same_address(host, nic->gateway6) || (!on_link && !is_link_local(host)))
		return first_hop(nic, iface);
	n = bpf_map_lookup_elem(&neighbours6, &key);
	if (!n)
		return NULL;
	if (n->used != plane.clock)
		n->used = plane.clock;
	return n->mac;
}

// Corrects the transport checksum of a packet whose addresses have changed by diff. The
// checksum covers them in every protocol of IPv6.
//
// If the NIC has summed the whole packet (CHECKSUM_COMPLETE), the helper takes diff off that
// sum, as is right in IPv4, whose header has a checksum too. In IPv6 the changes of the
// addresses and of the transport checksum cancel out, so diff is added again. Linux 6.16 has
// a flag for this (BPF_F_IPV6).
static __always_inline void mend_checksum6(struct __sk_buff *skb, __u32 check, __u32 diff, __u64 mangled)
{
	bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR | mangled);
	bpf_csum_update(skb, diff);
}

static __always_inline void reverse(struct address_pair *a)
{
	__u64 first = a->src[0], second = a->src[1];

	copy_address(a->src, a->dst);
	a->dst[0] = first;
	a->dst[1] = second;
}

// Rewrites an IPv6 packet, whose addresses are a->orig, to the reverse of an answer's tuple:
// rewrite for IPv6. It reverses a->reply, because the stack has no room for a copy.
static __always_inline int rewrite6(struct __sk_buff *skb, const struct packet *p, const struct flow_key *answer,
				    struct wide_addresses *a, const struct iface *out, const __u8 *dst_mac)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct ipv6hdr *ip = data + IP_OFFSET;
	__be16 *ports = data + IPV6_L4_OFFSET;
	__u64 mangled = p->key.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 check = IPV6_L4_OFFSET + (p->key.proto == IPPROTO_TCP ? 16 : p->key.proto == IPPROTO_UDP ? 6 : 2);
	__s64 diff;

	if ((void *)(ports + 4) > end)
		return SLOW;
	if (out->linked)
		set_macs(eth, dst_mac, out->mac);
	else
		set_macs(eth, dst_mac, eth->h_source);
	reverse(&a->reply);
	__builtin_memcpy(&ip->saddr, &a->reply, sizeof(a->reply));
	diff = bpf_csum_diff((void *)&a->orig, sizeof(a->orig), (void *)&a->reply, sizeof(a->reply), 0);
	if (p->key.proto == IPPROTO_ICMP) {
		__be16 id = answer->sport + answer->dport, old = p->key.sport + p->key.dport;	// one of each is 0

		ports[2] = id;
		mend_checksum6(skb, check, diff, 0);
		if (id != old)
			bpf_l4_csum_replace(skb, check, old, id, 2);
		return KEEP;
	}
	ports[0] = answer->dport;
	ports[1] = answer->sport;
	mend_checksum6(skb, check, diff, mangled);
	if (p->key.sport != answer->dport)
		bpf_l4_csum_replace(skb, check, p->key.sport, answer->dport, 2 | mangled);
	if (p->key.dport != answer->sport)
		bpf_l4_csum_replace(skb, check, p->key.dport, answer->sport, 2 | mangled);
	return KEEP;
}
