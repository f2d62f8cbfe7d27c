// SPDX-License-Identifier: Apache-2.0

// SYN cookies: syncookie.go does the same in userspace, and checks the cookies that clients
// acknowledge. The program turns a SYN into the bridge's answer, so a flood of SYNs costs userspace
// nothing.
#pragma once

#include "packet6.h"
#include "shift.h"
#include "siphash.h"

// The rate of SYNs that go to userspace, which keeps them: synCost and SYNBurst in syncookie.go.
#define SYN_COST (1 << 20)
#define SYN_BURST (256 * SYN_COST)

#define COOKIE_PERIOD 10	// cookiePeriod in syncookie.go, of the plane's coarse clock
#define COOKIE_SACK 0x08
#define COOKIE_SCALE 4
#define COOKIE_NO_SCALE 0x0f

#define GREETING_WINDOW (16 << 10)	// greetingWindow in greeting.go
#define BRIDGE_SCALE 7			// bridgeScale in greeting.go
#define OWN_HOP_LIMIT 64		// ownHopLimit in buildframe.go

// Words of TCP options.
#define OPTION_MSS_WORD 0x02040000
#define OPTION_SACK_WORD 0x01010402
#define OPTION_SACK_TIMES_WORD 0x0402080a
#define OPTION_TIMES_WORD 0x0101080a
#define OPTION_SCALE_WORD (0x01030300 | BRIDGE_SCALE)
#define OPTION_NOP_WORD 0x01010101

#define OPTION_MSS 2
#define OPTION_SACK 4
#define OPTION_TIMES 8

// Whether userspace keeps a SYN that comes now: mayKeep in syncookie.go.
static __always_inline bool may_keep(void)
{
	__s64 now = bpf_ktime_get_ns() - plane.began;

	if (plane.syns < now)
		plane.syns = now;
	return plane.syns - now < SYN_BURST && __sync_fetch_and_add(&plane.syns, SYN_COST) - now < SYN_BURST;
}

// What a SYN offers (packet.Offer), and what the bridge answers. scale is COOKIE_NO_SCALE if windows
// are not scaled.
struct offer {
	__u16 mss, own_mss;
	__u8 scale, sack, timed, zero;
	__be32 time;
	__u32 number;	// the bridge's sequence number
};

// The TCP options of a SYN. Their size is a power of two above MAX_OPTIONS, so that a mask bounds an
// index.
struct options {
	__u8 byte[64];
};

// Reads the option at the index i, of `length` bytes of options, and returns the index of the next one;
// `length` at the end.
//
// It is a global function, because the verifier checks a global function once, and an inlined one in
// every iteration of its loop.
__noinline __u32 read_option(const struct options *t, __u32 i, __u32 length, struct offer *o)
{
	__u8 kind, len, first;

	if (!t || !o)
		return length;
	kind = t->byte[i & 63];
	len = t->byte[(i + 1) & 63];
	first = t->byte[(i + 2) & 63];
	if (kind == OPTION_NOP)
		return i + 1;
	if (kind == OPTION_END || len < 2 || i + len > length)
		return length;
	if (kind == OPTION_MSS && len == 4) {
		o->mss = first << 8 | t->byte[(i + 3) & 63];
	} else if (kind == OPTION_SCALE && len == 3) {
		o->scale = first < MAX_SCALE ? first : MAX_SCALE;
	} else if (kind == OPTION_SACK && len == 2) {
		o->sack = 1;
	} else if (kind == OPTION_TIMES && len == 10) {
		o->timed = 1;
		o->time = bpf_htonl((__u32)first << 24 | (__u32)t->byte[(i + 3) & 63] << 16 |
				    (__u32)t->byte[(i + 4) & 63] << 8 | t->byte[(i + 5) & 63]);
	}
	return i + len;
}

// Reads what a SYN offers. `at` is the offset of its options.
__noinline int read_offer(struct __sk_buff *skb, __u32 at, __u32 length, struct offer *o)
{
	struct options t = {};
	__u32 i = 0;

	if (!o)
		return SLOW;
	o->mss = o->sack = o->timed = 0;
	o->scale = COOKIE_NO_SCALE;
	o->time = 0;
	if (!length)
		return KEEP;
	if (length > MAX_OPTIONS || bpf_skb_load_bytes(skb, at, &t, length))
		return SLOW;
	for (__u64 n = 0; n < MAX_OPTIONS && i + 2 <= length; n++)
		i = read_option(&t, i, length, o);
	return KEEP;
}

// The index of the largest MSS that a cookie can tell: cookieMSS in syncookie.go.
static __always_inline __u32 cookie_mss(__u32 mss)
{
	return (mss >= 1220) + (mss >= 1300) + (mss >= 1360) + (mss >= 1400) + (mss >= 1440) + (mss >= 1460) + (mss >= 8940);
}

// The cookie for the client of a SYN: cookieFor in syncookie.go. The addresses are those of the hash:
// words of the machine's order that stand for little-endian ones.
static __always_inline __u32 cookie_for(const struct packet *p, const struct offer *o, __u64 src0, __u64 src1, __u64 dst0,
					__u64 dst1)
{
	__u32 data = cookie_mss(o->mss) | (o->sack ? COOKIE_SACK : 0) | o->scale << COOKIE_SCALE;
	union { __be16 halves[4]; __be32 words[2]; __u64 all; } from = {};
	__u64 v[4];

	from.halves[0] = p->key.sport;
	from.halves[1] = p->key.dport;
	from.words[1] = bpf_htonl(p->seq);
	sip_begin(v);
	sip_word(v, src0);
	sip_word(v, src1);
	sip_word(v, dst0);
	sip_word(v, dst1);
	sip_word(v, little(from.all));
	sip_word(v, (__u64)(plane.clock >> COOKIE_PERIOD) << 8 | data);
	return (__u32)sip_end(v, 48ULL << 56) << 8 | data;
}

// The cookie for the client of an IPv4 SYN.
__noinline __u32 cookie4(const struct packet *p, const struct offer *o)
{
	return p && o ? cookie_for(p, o, 0, mapped(p->key.src), 0, mapped(p->key.dst)) : 0;
}

// The cookie for the client of an IPv6 SYN.
__noinline __u32 cookie6(const struct packet *p, const struct offer *o, const struct address_pair *a)
{
	return p && o && a ? cookie_for(p, o, little(a->src[0]), little(a->src[1]), little(a->dst[0]), little(a->dst[1])) : 0;
}

// Turns the TCP header of a SYN, which is at the offset `at`, into the header of a SYN-ACK. The
// checksum stays right, or wrong. Returns the length of the new header, or 0 if the SYN is unchanged.
__noinline int accept_syn(struct __sk_buff *skb, const struct packet *p, const struct offer *o, __u32 at)
{
	__be32 words[TCP_WORDS] = {};
	__u32 len, answer;
	__s64 diff;

	if (!p || !o || p->options > MAX_OPTIONS)
		return 0;
	len = sizeof(struct tcphdr) + p->options;
	answer = sizeof(struct tcphdr) + (o->timed ? 20 : 12);
	if (len > sizeof(words) || bpf_skb_load_bytes(skb, at, words, len))
		return 0;
	// A packet that grows loses the sum that the NIC has made of it (CHECKSUM_COMPLETE), which what
	// follows would not keep right.
	if (bpf_skb_change_tail(skb, skb->len + 4, 0) || bpf_skb_change_tail(skb, at + answer, 0))
		return 0;
	diff = bpf_csum_diff(words, sizeof(words), NULL, 0, 0);
	words[0] = JOIN(__u32, p->key.dport, p->key.sport);
	words[WORD_SEQ] = bpf_htonl(o->number);
	words[WORD_ACK] = bpf_htonl(p->seq + 1);
	words[WORD_WINDOW] = bpf_htonl(answer / 4 << 28 | (TCP_SYN | TCP_ACK) << 16 | GREETING_WINDOW);
	words[4] &= bpf_htonl(0xffff0000);	// no urgent pointer
	words[5] = bpf_htonl(OPTION_MSS_WORD | o->own_mss);
	words[8] = o->time;
	words[9] = bpf_htonl(o->scale != COOKIE_NO_SCALE ? OPTION_SCALE_WORD : OPTION_NOP_WORD);
	if (o->timed) {
		words[6] = bpf_htonl(o->sack ? OPTION_SACK_TIMES_WORD : OPTION_TIMES_WORD);
		words[7] = bpf_htonl((__u32)((bpf_ktime_get_ns() - plane.began) >> 20));
	} else {
		words[6] = bpf_htonl(o->sack ? OPTION_SACK_WORD : OPTION_NOP_WORD);
		words[7] = words[9];
		words[8] = words[9] = 0;
	}
	words[10] = words[11] = words[12] = words[13] = words[14] = 0;
	if (bpf_skb_store_bytes(skb, at, words, o->timed ? 40 : 32, 0))
		return 0;
	bpf_l4_csum_replace(skb, at + 16, 0, bpf_csum_diff(NULL, 0, words, sizeof(words), diff), 0);
	bpf_l4_csum_replace(skb, at + 16, bpf_htons(len), bpf_htons(answer), BPF_F_PSEUDO_HDR | 2);
	return answer;
}

// The MSS that the bridge offers at an iface, whose packets have headers of `headers` bytes: offerTo
// in greeting.go.
static __always_inline __u32 own_mss(const struct iface *own, __u32 headers)
{
	__u32 mtu = own->mtu ? own->mtu : 1500;

	return mtu - headers < 0xffff ? mtu - headers : 0xffff;
}

// Turns an IPv4 SYN into the bridge's SYN-ACK. mac is that of the next hop. SLOW: userspace must
// answer.
static __always_inline int answer_syn4(struct __sk_buff *skb, const struct packet *p, const struct iface *own, const __u8 *mac)
{
	struct offer o = {};
	struct ethhdr *eth;
	struct iphdr *ip;
	__u32 len, *words;

	if (read_offer(skb, HEADERS, p->options, &o) != KEEP)
		return SLOW;
	o.own_mss = own_mss(own, sizeof(*ip) + sizeof(struct tcphdr));
	o.number = cookie4(p, &o);
	len = accept_syn(skb, p, &o, L4_OFFSET);
	eth = (void *)(long)skb->data;
	ip = (void *)(eth + 1);
	if (!len || (void *)(ip + 1) > (void *)(long)skb->data_end)
		return SLOW;
	words = (void *)ip;
	set_macs(eth, mac, own->mac);
	words[0] = bpf_htonl(0x45000000 | (sizeof(*ip) + len));
	words[1] = bpf_htonl(0x4000);	// do not fragment
	words[2] = bpf_htonl(OWN_HOP_LIMIT << 24 | IPPROTO_TCP << 16);
	words[3] = p->key.dst;
	words[4] = p->key.src;
	set_check(ip, ~fold16(fold((__u64)words[0] + words[1] + words[2] + p->key.dst + p->key.src)));
	return KEEP;
}

// Turns an IPv6 SYN into the bridge's SYN-ACK: answer_syn4 for IPv6.
static __always_inline int answer_syn6(struct __sk_buff *skb, const struct packet *p, struct address_pair *a, const struct iface *own,
				       const __u8 *mac)
{
	struct offer o = {};
	struct ethhdr *eth;
	struct ipv6hdr *ip;
	__u32 len, *words;

	if (read_offer(skb, IPV6_HEADERS, p->options, &o) != KEEP)
		return SLOW;
	o.own_mss = own_mss(own, sizeof(*ip) + sizeof(struct tcphdr));
	o.number = cookie6(p, &o, a);
	len = accept_syn(skb, p, &o, IPV6_L4_OFFSET);
	eth = (void *)(long)skb->data;
	ip = (void *)(eth + 1);
	if (!len || (void *)(ip + 1) > (void *)(long)skb->data_end)
		return SLOW;
	words = (void *)ip;
	set_macs(eth, mac, own->mac);
	words[0] = bpf_htonl(6 << 28);
	words[1] = bpf_htonl(len << 16 | IPPROTO_TCP << 8 | OWN_HOP_LIMIT);
	reverse(a);
	__builtin_memcpy(&ip->saddr, a, sizeof(*a));
	return KEEP;
}
