// SPDX-License-Identifier: Apache-2.0

// Reading and rewriting a packet. Uncommon packets are not read: they go to userspace.
#pragma once

#include "maps.h"
#include "wire.h"

#define IP_OFFSET sizeof(struct ethhdr)
#define L4_OFFSET (IP_OFFSET + sizeof(struct iphdr))
#define HEADERS (L4_OFFSET + sizeof(struct tcphdr))	// bytes that are read, at most

// A packet that was read. Its TCP fields are in host order, and 0 in other packets.
struct packet {
	struct flow_key key;
	__u32 len;		// bytes of the frame
	__u32 size;		// bytes of the IP packet
	__u32 seq, next;	// sequence numbers; next follows the segment
	__u32 ack;
	__u16 window;		// unscaled
	__u8 options;		// bytes of TCP options
	__u8 scale;		// the window scale that a SYN offers
	__u8 tcp_flags;
	__u8 icmp_type;
	__u16 zero;
};

// Makes the headers readable in place, which have at most `headers` bytes. Returns false if
// the frame is shorter than an Ethernet header.
static __always_inline bool pull_headers(struct __sk_buff *skb, __u32 headers)
{
	__u32 want = skb->len < headers ? skb->len : headers;

	if ((void *)(long)skb->data + want > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, want);
	return (void *)(long)skb->data + IP_OFFSET <= (void *)(long)skb->data_end;
}

// Joins two fields that are adjacent in memory, so that one store writes both. If a field is
// stored in parts, a load of the whole stalls until the parts have left the store buffer.
// The kernel loads MACs by 8 bytes and sums headers by 4.
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define JOIN(type, a, b) ((type)(a) | (type)(b) << 4 * sizeof(type))
#else
#define JOIN(type, a, b) ((type)(a) << 4 * sizeof(type) | (type)(b))
#endif

static __always_inline void set_key(struct packet *p, const struct iphdr *ip, __be16 sport, __be16 dport)
{
	__u64 *words = (void *)&p->key;

	words[0] = JOIN(__u64, ip->saddr, ip->daddr);
	words[1] = JOIN(__u64, JOIN(__u32, sport, dport), JOIN(__u32, self, JOIN(__u16, ip->protocol, 0)));
}

// Reads what the TCP header says besides the ports.
static __always_inline void read_segment(const struct tcphdr *tcp, __u32 l4_len, struct packet *p)
{
	p->tcp_flags = ((__u8 *)tcp)[13];
	p->seq = bpf_ntohl(tcp->seq);
	p->next = p->seq + l4_len - tcp->doff * 4 + (p->tcp_flags >> 1 & 1) + (p->tcp_flags & 1);
	p->options = tcp->doff * 4 - sizeof(*tcp);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->window = bpf_ntohs(tcp->window);
}

static __always_inline int read_tcp(const struct iphdr *ip, void *end, __u32 l4_len, struct packet *p)
{
	const struct tcphdr *tcp = (const void *)(ip + 1);

	if ((void *)(tcp + 1) > end || tcp->doff < 5 || tcp->doff * 4 > l4_len)
		return SLOW;
	set_key(p, ip, tcp->source, tcp->dest);
	read_segment(tcp, l4_len, p);
	return KEEP;
}

static __always_inline int read_udp(const struct iphdr *ip, void *end, __u32 l4_len, struct packet *p)
{
	const struct udphdr *udp = (const void *)(ip + 1);

	if ((void *)(udp + 1) > end || bpf_ntohs(udp->len) > l4_len)
		return SLOW;
	set_key(p, ip, udp->source, udp->dest);
	return KEEP;
}

static __always_inline int read_echo(const struct iphdr *ip, void *end, struct packet *p)
{
	const struct echo *icmp = (const void *)(ip + 1);

	if ((void *)(icmp + 1) > end)
		return SLOW;
	p->icmp_type = icmp->type;
	if (icmp->type == ICMP_ECHO_REQUEST)
		set_key(p, ip, icmp->id, 0);
	else if (icmp->type == ICMP_ECHO_REPLY)
		set_key(p, ip, 0, icmp->id);
	else
		return SLOW;
	return KEEP;
}

// Reads the packet of a frame whose Ethernet type is IPv4.
static __always_inline int read_packet(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + IP_OFFSET;
	__u32 size;

	if ((void *)(ip + 1) > end)
		return SLOW;
	size = bpf_ntohs(ip->tot_len);
	if (unlikely(!size) && skb->gso_size && ip->protocol == IPPROTO_TCP)
		size = skb->len - IP_OFFSET;	// beyond 64 KiB (iph_totlen in include/linux/ip.h)
	if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & IP_FRAGMENT ||
	    size < sizeof(*ip) || size > skb->len - IP_OFFSET)
		return SLOW;
	p->len = skb->len;
	p->size = size;
	if (size < sizeof(*ip) + 8)
		return SLOW;
	switch (ip->protocol) {
	case IPPROTO_TCP:
		return size < sizeof(*ip) + sizeof(struct tcphdr) ? SLOW : read_tcp(ip, end, size - sizeof(*ip), p);
	case IPPROTO_UDP:
		return read_udp(ip, end, size - sizeof(*ip), p);
	case IPPROTO_ICMP:
		return read_echo(ip, end, p);
	}
	return SLOW;
}

#define MAX_SCALE 14		// RFC 7323 §2.3
#define MAX_OPTIONS 40
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_SCALE 3

// The window scale that a SYN offers, at most MAX_SCALE; 0 if it has no such option. All
// options are loaded at once, because a helper call for each would take longer than
// everything else here.
//
// headers is the offset of the options.
__noinline int window_scale(struct __sk_buff *skb, __u32 headers, __u32 options)
{
	__u8 option[64] = {};	// a power of two above MAX_OPTIONS, so that a mask bounds the index
	__u32 at = 0;

	if (options < 3 || options > MAX_OPTIONS || bpf_skb_load_bytes(skb, headers, option, options))
		return 0;
	for (__u64 i = 0; i < MAX_OPTIONS && at + 3 <= options; i++) {
		__u8 kind = option[at & 63], len = option[(at + 1) & 63], scale = option[(at + 2) & 63];

		if (kind == OPTION_SCALE)
			return scale < MAX_SCALE ? scale : MAX_SCALE;
		if (kind != OPTION_NOP && (kind == OPTION_END || len < 2))
			return 0;
		at += kind == OPTION_NOP ? 1 : len;
	}
	return 0;
}

// Whether the packet can begin a flow (F1).
static __always_inline bool begins(const struct packet *p)
{
	switch (p->key.proto) {
	case IPPROTO_TCP:
		return (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	case IPPROTO_ICMP:
		return p->icmp_type == ICMP_ECHO_REQUEST;
	}
	return true;
}

// Whether the packet is a TCP segment from within a connection: Packet.Continues in packet.go.
static __always_inline bool continues(const struct packet *p)
{
	return p->key.proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_ACK;
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	const __u16 *x = (const void *)a, *y = (const void *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

static __always_inline bool is_zero(const __u8 *mac)
{
	const __u16 *x = (const void *)mac;

	return !(x[0] | x[1] | x[2]);
}

// Whether another machine has the pseudo address of a NIC, or the aliases behind a device:
// Iface.StandsBy in iface.go. It is not inlined, because the callers have no stack left for the key.
__noinline int stands_by(__u32 iface)
{
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);

	return g && g->standby;
}

// The MAC of the gateway of a NIC, or of the server behind a device. NULL: userspace must send the
// packet, because the MAC is not resolved, or because the device's own MAC must be its source (H2).
static __always_inline const __u8 *first_hop(const struct iface *out, __u32 iface)
{
	return is_zero(out->gateway_mac) || (!out->nic && stands_by(iface)) ? NULL : out->gateway_mac;
}

// The MAC of the next hop to a host behind a NIC (A7), or NULL if userspace must send the packet.
static __always_inline const __u8 *next_hop(const struct flow_key *answer, const struct iface *nic)
{
	struct neighbour_key key = { .address = answer->src, .iface = answer->iface };
	struct neighbour *n;

	if (answer->src == nic->gateway || (answer->src & nic->mask) != nic->network)
		return first_hop(nic, answer->iface);
	n = bpf_map_lookup_elem(&neighbours, &key);
	if (!n)
		return NULL;
	if (n->used != plane.clock)
		n->used = plane.clock;
	return n->mac;
}

static __always_inline void set_macs(struct ethhdr *eth, const __u8 *dst, const __u8 *src)
{
	const __u16 *d = (const void *)dst, *s = (const void *)src;
	__u32 tail = JOIN(__u32, s[1], s[2]);	// src may be in the frame itself
	__u64 *first = (void *)eth;
	__u32 *rest = (void *)(first + 1);

	*first = JOIN(__u64, JOIN(__u32, d[0], d[1]), JOIN(__u32, d[2], s[0]));
	*rest = tail;
}

static __always_inline void set_check(struct iphdr *ip, __u16 check)
{
	__u32 *word = (void *)&ip->ttl;

	*word = JOIN(__u32, JOIN(__u16, ip->ttl, ip->protocol), check);
}

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)sum + (sum >> 32);
}

static __always_inline __u16 fold16(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

// Rewrites the packet to the reverse of a key: to the source of `answer`, from its
// destination. Checksums are updated incrementally (RFC 1624, equation 3). The transport
// checksum may be unfinished, which only the helper can tell.
static __always_inline int rewrite(struct __sk_buff *skb, struct packet *p, const struct flow_key *answer,
				   const struct iface *out, const __u8 *dst_mac)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + IP_OFFSET;
	__be16 *ports = data + L4_OFFSET, old_id;
	__u32 diff, *words = (void *)ports;

	if ((void *)(ports + 4) > end)
		return SLOW;
	if (out->linked)
		set_macs(eth, dst_mac, out->mac);
	else
		set_macs(eth, dst_mac, eth->h_source);
	diff = fold((__u64)(__u32)~ip->saddr + answer->dst + (__u32)~ip->daddr + answer->src);
	ip->saddr = answer->dst;
	ip->daddr = answer->src;
	set_check(ip, ~fold16(fold((__u64)diff + (__u16)~ip->check)));

	if (p->key.proto == IPPROTO_ICMP) {
		__be16 id = answer->sport + answer->dport;	// one of them is 0

		old_id = p->key.sport + p->key.dport;
		if (id != old_id) {
			ports[2] = id;
			bpf_l4_csum_replace(skb, L4_OFFSET + 2, old_id, id, 2);
		}
		return KEEP;
	}

	__u32 check = L4_OFFSET + (p->key.proto == IPPROTO_TCP ? 16 : 6);
	__u64 mangled = p->key.proto == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;

	*words = JOIN(__u32, answer->dport, answer->sport);
	bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR | mangled);
	if (p->key.sport != answer->dport)
		bpf_l4_csum_replace(skb, check, p->key.sport, answer->dport, 2 | mangled);
	if (p->key.dport != answer->sport)
		bpf_l4_csum_replace(skb, check, p->key.dport, answer->sport, 2 | mangled);
	return KEEP;
}
