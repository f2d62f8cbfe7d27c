//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// The kernel path: it does what forwarder.go does, for common packets. One program runs on
// what comes in at a NIC, and the other on what a segment sends. Each is loaded once for
// each iface. Other packets go to userspace unchanged.
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "admit.h"
#include "admit6.h"
#include "arrival6.h"
#include "count.h"
#include "hear.h"
#include "pace.h"
#include "remote.h"
#include "shift.h"

// If userspace's heartbeat is older than this, userspace is gone. The programs then leave
// all packets to the host, so that what is left of the plane cannot disturb the network.
#define HEARTBEAT_NS 3000000000ULL

static __always_inline bool awake(void)
{
	if (needs_heartbeat && bpf_ktime_get_ns() - plane.heartbeat > HEARTBEAT_NS)
		return false;
	return plane.mode != MODE_ASLEEP;
}

// How many bytes of headers each packet of a super-packet has. ip is the length of its IP header.
static __always_inline __u32 headers_len(const struct packet *p, __u32 ip)
{
	return ip + (p->key.proto == IPPROTO_TCP ? sizeof(struct tcphdr) + p->options : sizeof(struct udphdr));
}

// Whether a packet does not fit a link: Arrival.tooBig in icmperror.go. ip is the length of its
// IP header.
static __always_inline bool too_big(const struct __sk_buff *skb, const struct packet *p, __u32 ip, __u32 mtu)
{
	bool cut = skb->gso_size && p->key.proto != IPPROTO_ICMP;

	return mtu && p->size > mtu && (!cut || headers_len(p, ip) + skb->gso_size > mtu);
}

// How many bytes a packet has, or, of a super-packet, the packets into which segmentation offload
// cuts it. ip is the length of its IP header.
static __always_inline __u32 wire_size(const struct __sk_buff *skb, const struct packet *p, __u32 ip)
{
	__u32 headers = headers_len(p, ip), each = skb->gso_size;

	return each && p->size > headers + each ? p->size + (p->size - headers - 1) / each * headers : p->size;
}

// Takes a packet from the rates of the segments at the ends of its flow: pace. Most have none.
static __always_inline int pace_packet(const struct __sk_buff *skb, const struct packet *p, __u32 ip, const struct iface *own,
				       const struct iface *out)
{
	return unlikely(own->paced | out->paced) ? pace(own->paced, out->paced, wire_size(skb, p, ip)) : KEEP;
}

// Whether a program may carry a QUIC packet: not one with a long header from a server, from which
// userspace learns the server's connection id (RFC 8999 §5).
static __always_inline int carry_quic(struct __sk_buff *skb, const struct found *f, __u32 at)
{
	__u8 first = 0;

	if (f->dir == BACKWARD && (bpf_skb_load_bytes(skb, at + sizeof(struct udphdr), &first, 1) || first & 0x80))
		return SLOW;
	return KEEP;
}

// Shifts the numbers of a segment of a greeted flow. SLOW: the segment is unchanged, and userspace
// must carry it, because its server has not answered yet, or because of its options.
static __always_inline int shift_greeted(struct __sk_buff *skb, struct packet *p, const struct found *f, const struct flow_record *r,
					 __u32 at)
{
	__u32 flags = r->state.flags;

	if (p->key.proto == IPPROTO_UDP)
		return carry_quic(skb, f, at);
	if (!(flags & (f->dir == FORWARD ? FLOW_SHIFTED : FLOW_SHIFTED | FLOW_ANSWERED)))
		return SLOW;
	return shift(skb, p, (__u32)(f->number + nothing_after(flags)), f->dir, at);
}

// Sends a packet to a device. Only a program at ingress can send to a peer (skb_do_redirect in
// net/core/filter.c).
static __always_inline int send(const struct iface *out)
{
	if (out->redirect != TO_PEER)
		return bpf_redirect(out->ifindex, out->redirect);
	return at_egress ? bpf_redirect(out->ifindex, 0) : bpf_redirect_peer(out->ifindex, 0);
}

// Sends a packet to the other end of its flow. SLOW: the packet is unchanged, and userspace
// must send it.
static __always_inline int forward(struct __sk_buff *skb, struct packet *p, const struct iface *own, const struct found *f,
				   struct flow_record *r)
{
	__u32 to = f->answer.iface;
	struct iface *out = bpf_map_lookup_elem(&ifaces, &to);
	const __u8 *mac;
	int verdict;

	if (unlikely(!out || !out->ifindex))
		return SLOW;
	if (unlikely(too_big(skb, p, sizeof(struct iphdr), out->mtu)))
		return SLOW;
	mac = out->linked ? next_hop(&f->answer, out) : out->mac;
	if (unlikely(!mac))
		return SLOW;
	verdict = pace_packet(skb, p, sizeof(struct iphdr), own, out);
	if (unlikely(verdict != KEEP))
		return verdict == SLOW ? SLOW : count_drop(p->len, verdict);
	if (unlikely(r->state.flags & FLOW_GREETED) && shift_greeted(skb, p, f, r, L4_OFFSET) != KEEP)
		return SLOW;
	observe(p, f, r);
	if (rewrite(skb, p, &f->answer, out, mac) != KEEP)
		return SLOW;
	count_in(self, p->len);
	count_out(to, p->len);
	return send(out);
}

// Answers a SYN with a cookie. old is the record of the closed flow whose tuple the SYN reuses, or
// NOT_FOUND. SLOW: userspace must answer.
__noinline int send_cookie(struct __sk_buff *skb, const struct packet *p, __u32 old)
{
	struct flow_key client = { .iface = self };
	__u32 iface = self;
	struct iface *own = bpf_map_lookup_elem(&ifaces, &iface);
	const __u8 *mac;

	if (!p || !own)
		return SLOW;
	client.src = p->key.src;
	mac = next_hop(&client, own);
	if (!mac || supersede(&p->key, old) != KEEP || answer_syn4(skb, p, own, mac) != KEEP)
		return SLOW;
	count_in(self, p->len);
	count_out(self, skb->len);
	return bpf_redirect(own->ifindex, 0);
}

// Sends a packet that was read to the other end of its flow. It opens the flow if necessary.
static __always_inline int carry(struct __sk_buff *skb, struct packet *p, const struct iface *own)
{
	struct found f = {};
	struct flow_record *r = find(&p->key, &f);
	int verdict = SLOW;

	if (unlikely(plane.mode != MODE_FAST))
		return give_up(own);
	if (unlikely(p->tcp_flags & TCP_SYN))
		p->scale = window_scale(skb, HEADERS, p->options);
	if (unlikely(!r || reopens(p, r))) {
		__u32 old = r ? f.number : NOT_FOUND;

		verdict = own->nic ? admit_inbound(p, old, &f) : admit_outbound(p, old, &f);
		if (verdict == COOKIE)
			verdict = send_cookie(skb, p, old);
		if (verdict == TC_ACT_REDIRECT)
			return verdict;
		if (verdict == AGAIN)
			return count_taken(self, p->len);
		if (verdict != KEEP && verdict != SLOW && own->nic)
			return count_drop(p->len, verdict);
		// A drop here would give a sender on a segment an error (ENOBUFS). So userspace
		// drops the packet instead, as silently as a wire.
		r = verdict == KEEP ? record_of(f.number) : NULL;
	}
	if (r)
		verdict = forward(skb, p, own, &f, r);
	return r && verdict != SLOW ? verdict : give_up(own);
}

// Whether the packet has our address, which is its destination at a NIC and its source at a
// VNIC.
static __always_inline bool is_own(const struct iface *own, const struct address_pair *a)
{
	return same_address(own->nic ? a->dst : a->src, own->address6);
}

// Sends an IPv6 packet to the other end of its flow: forward for IPv6.
static __always_inline int forward6(struct __sk_buff *skb, struct packet *p, const struct iface *own, const struct found *f,
				    struct wide_addresses *a, struct flow_record *r)
{
	__u32 to = f->answer.iface;
	struct iface *out = bpf_map_lookup_elem(&ifaces, &to);
	const __u8 *mac;
	int verdict;

	if (!out || !out->ifindex || too_big(skb, p, sizeof(struct ipv6hdr), out->mtu))
		return SLOW;
	mac = out->linked ? next_hop6(a->reply.src, to, out) : out->mac;
	if (!mac)
		return SLOW;
	verdict = pace_packet(skb, p, sizeof(struct ipv6hdr), own, out);
	if (unlikely(verdict != KEEP))
		return verdict == SLOW ? SLOW : count_drop_at(self6, p->len, verdict);
	if (unlikely(r->state.flags & FLOW_GREETED) && shift_greeted(skb, p, f, r, IPV6_L4_OFFSET) != KEEP)
		return SLOW;
	observe(p, f, r);
	if (rewrite6(skb, p, &f->answer, a, out, mac) != KEEP)
		return SLOW;
	count_in(self6, p->len);
	count_out(to, p->len);
	return send(out);
}

// Reads an IPv6 packet that is ours and has nothing unusual, and returns the iface. Otherwise
// it returns NULL.
static __always_inline const struct iface *read_own6(struct __sk_buff *skb, struct packet *p, struct wide_addresses *a)
{
	__u32 iface = self6;
	struct iface *own = bpf_map_lookup_elem(&ifaces, &iface);
	struct ethhdr *eth;

	if (!own || skb->vlan_present || !pull_headers(skb, IPV6_HEADERS))
		return NULL;
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end || (own->nic ? !same_mac(eth->h_dest, own->mac) : eth->h_dest[0] & 1))
		return NULL;
	if (read_packet6(skb, p, &a->orig) != KEEP || !is_own(own, &a->orig))
		return NULL;
	if (unlikely(p->tcp_flags & TCP_SYN))
		p->scale = window_scale(skb, IPV6_HEADERS, p->options);
	return own;
}

// Not a drop either: the packet belongs to no flow yet.
#define UNKNOWN (SLOW + 2)

// Sends an IPv6 packet to the other end of its flow. SLOW or UNKNOWN: the packet is
// unchanged.
//
// This and admit6 are two functions, because the stack has no room for one in the other.
__noinline int carry6(struct __sk_buff *skb)
{
	struct wide_addresses a = {};
	struct packet p = {};
	const struct iface *own = read_own6(skb, &p, &a);
	struct found f = {};
	struct flow_record *r;

	if (!own)
		return SLOW;
	r = find6(&p, &f, &a);
	if (unlikely(!r || reopens(&p, r)))
		return UNKNOWN;
	return forward6(skb, &p, own, &f, &a, r);
}

// Opens the flow of an IPv6 packet. KEEP: the packet has a flow now. SLOW: userspace must open
// it. COOKIE: send_cookie6 must answer it. Otherwise the packet is dropped, and counted.
__noinline int admit6(struct __sk_buff *skb)
{
	struct wide_addresses a = {};
	struct packet p = {};
	const struct iface *own = read_own6(skb, &p, &a);
	struct found f = {};
	__u32 old = NOT_FOUND;
	int verdict;

	if (!own)
		return SLOW;
	if (find6(&p, &f, &a))
		old = f.number;
	if (!own->nic)
		return admit_outbound6(&p, old, &f, &a) == KEEP ? KEEP : SLOW;
	verdict = admit_inbound6(&p, old, &f, &a, own);
	if (verdict == AGAIN)
		return count_taken(self6, p.len);
	return verdict == KEEP || verdict == SLOW || verdict == COOKIE ? verdict : count_drop_at(self6, p.len, verdict);
}

// Answers an IPv6 SYN with a cookie: send_cookie for IPv6. It is not in admit6, because the stack has
// no room for both.
__noinline int send_cookie6(struct __sk_buff *skb)
{
	struct wide_addresses a = {};
	struct packet p = {};
	const struct iface *own = read_own6(skb, &p, &a);
	struct found f = {};
	const __u8 *mac;

	if (!own)
		return SLOW;
	mac = next_hop6(a.orig.src, self6, own);
	if (!mac || supersede(&p.key, find6(&p, &f, &a) ? f.number : NOT_FOUND) != KEEP || answer_syn6(skb, &p, &a.orig, own, mac) != KEEP)
		return SLOW;
	count_in(self6, p.len);
	count_out(self6, skb->len);
	return bpf_redirect(own->ifindex, 0);
}

// Carries an IPv6 packet, whose flow it opens if necessary: carry for IPv6. SLOW: userspace
// must carry the packet.
static __always_inline int carry_ipv6(struct __sk_buff *skb)
{
	int verdict;

	if (plane.mode != MODE_FAST)
		return SLOW;
	verdict = carry6(skb);
	if (unlikely(verdict == UNKNOWN)) {
		verdict = admit6(skb);
		if (verdict == KEEP)
			verdict = carry6(skb);
		else if (verdict == COOKIE)
			verdict = send_cookie6(skb);
		if (verdict == UNKNOWN)
			verdict = SLOW;
	}
	return verdict;
}

// Gives userspace a packet that only userspace can carry, at a limited rate: a flood of such
// packets must not keep userspace from other work. `at` is the offset of the IP header.
static __always_inline int give_up_odd(struct __sk_buff *skb, const struct iface *own, __u32 at)
{
	struct iphdr *ip = (void *)(long)skb->data + at;
	struct flow_key datagram = { .iface = self };

	if (plane.mode != MODE_FAST)
		return give_up(own);
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return count_drop(skb->len, DROP_MALFORMED);
	datagram.src = ip->saddr;
	datagram.dst = ip->daddr;
	datagram.sport = ip->id;
	datagram.proto = ip->protocol;
	if (!spend_odd(&plane.odd, &plane.strays, part_of(ip), place_of(&datagram).print >> 1))
		return count_drop(skb->len, DROP_OVERLOAD);
	return give_up(own);
}

// Whether the program could carry a packet for the pseudo address. Only userspace can carry
// one that has a tag in its bytes. `at` is the offset of the IPv6 header.
static __always_inline bool is_common6(struct __sk_buff *skb, __u32 at)
{
	struct address_pair a;
	struct packet p = {};

	return at == IP_OFFSET && pull_headers(skb, IPV6_HEADERS) && read_packet6(skb, &p, &a) == KEEP;
}

// Decides on an IPv6 packet that comes in at a NIC and is not carried here: whether it is the
// host's or userspace's. `at` is the offset of its header.
__noinline int sort_ipv6(struct __sk_buff *skb, __u32 at)
{
	__u8 dst[6] __attribute__((aligned(2))) = {};	// same_mac reads it by 2 bytes
	__u32 iface = self6;
	struct iface *own = bpf_map_lookup_elem(&ifaces, &iface);
	struct arrival6 p;
	bool to_us;

	if (!own || !read_ipv6(skb, at, &p))
		return TC_ACT_UNSPEC;
	to_us = same_address(dst_of(&p), own->address6);
	if (foreign_tag(skb)) {
		if (to_us)
			count_drop_at(self6, skb->len, DROP_VLAN);
		return TC_ACT_UNSPEC;
	}
	if (is_message(&p) && (to_us || may_hear(dst_of(&p))))
		return hear_ndp(skb, own, at, &p, to_us);
	if (!to_us)
		return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_dest), dst, sizeof(dst)) || !same_mac(dst, own->mac))
		return count_drop_at(self6, skb->len, dst[0] & 1 ? DROP_GROUP : DROP_NOT_FOR_US);
	if (plane.mode == MODE_FAST && !is_common6(skb, at) &&
	    !spend_odd6(skb, at, &p, &plane.odd, &plane.strays, plane.table_key[0]))
		return count_drop_at(self6, skb->len, DROP_OVERLOAD);
	return give_up(own);
}

// A frame that comes in at a NIC with a tag in its bytes. This is rare, because the kernel
// removes the first tag. Userspace removes a priority tag.
static __always_inline int from_nic_tagged(struct __sk_buff *skb, const struct iface *own)
{
	struct tag *tag = (void *)(long)skb->data + sizeof(struct ethhdr);
	__u32 at = sizeof(struct ethhdr) + sizeof(*tag);
	struct iphdr *ip = (void *)(tag + 1);

	if (skb->vlan_present || (void *)(tag + 1) > (void *)(long)skb->data_end || tag->control & bpf_htons(VLAN_ID))
		return TC_ACT_UNSPEC;
	if (tag->proto == ETH_ARP)
		return hear_arp(skb, own, at);
	if (self6 && tag->proto == ETH_IPV6)
		return sort_ipv6(skb, at);
	if (tag->proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end || ip->daddr != own->address || !own->address)
		return TC_ACT_UNSPEC;
	return give_up_odd(skb, own, at);
}

// A frame that comes in at a NIC. Only packets to the pseudo addresses are ours (S1); the host
// gets all others. ARP, NDP and MLD go to both.
SEC("tc")
int from_nic(struct __sk_buff *skb)
{
	__u32 iface = self;
	struct iface *own = bpf_map_lookup_elem(&ifaces, &iface);
	struct packet p = {};
	struct ethhdr *eth;
	struct iphdr *ip;

	if (!own || !awake() || !pull_headers(skb, HEADERS))
		return TC_ACT_UNSPEC;
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	if (unlikely(eth->h_proto == ETH_ARP && !foreign_tag(skb)))
		return hear_arp(skb, own, IP_OFFSET);
	if (unlikely(eth->h_proto == ETH_VLAN || eth->h_proto == ETH_QINQ))
		return from_nic_tagged(skb, own);
	if (self6 && eth->h_proto == ETH_IPV6) {
		int verdict = carry_ipv6(skb);

		return verdict == SLOW ? sort_ipv6(skb, IP_OFFSET) : verdict;
	}
	ip = (void *)(eth + 1);
	if (eth->h_proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end || ip->daddr != own->address || !own->address)
		return TC_ACT_UNSPEC;
	if (unlikely(foreign_tag(skb))) {
		count_drop(skb->len, DROP_VLAN);
		return TC_ACT_UNSPEC;
	}
	if (unlikely(!same_mac(eth->h_dest, own->mac)))
		return count_drop(skb->len, eth->h_dest[0] & 1 ? DROP_GROUP : DROP_NOT_FOR_US);
	if (unlikely(skb->vlan_present && bpf_skb_vlan_pop(skb)))
		return count_drop(skb->len, DROP_VLAN);
	if (unlikely(read_packet(skb, &p) != KEEP))
		return give_up_odd(skb, own, IP_OFFSET);
	return carry(skb, &p, own);
}

// A frame that a segment sends. All of them are ours, unless the segment is behind a device, but
// only packets from the segment's own address leave it (S2).
SEC("tc")
int from_vnic(struct __sk_buff *skb)
{
	__u32 iface = self;
	struct iface *own = bpf_map_lookup_elem(&ifaces, &iface);
	struct packet p = {};
	struct ethhdr *eth;

	if (!own || !awake())
		return TC_ACT_UNSPEC;
	if (!pull_headers(skb, HEADERS))
		return give_up(own);
	if (unlikely(own->linked)) {
		int verdict = sort_remote(skb);

		if (verdict != KEEP)
			return verdict;
	}
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return give_up(own);
	if (self6 && eth->h_proto == ETH_IPV6) {
		int verdict = carry_ipv6(skb);

		return verdict == SLOW ? give_up(own) : verdict;
	}
	if (eth->h_proto != ETH_IPV4 || foreign_tag(skb) || eth->h_dest[0] & 1)
		return give_up(own);
	if (unlikely(skb->vlan_present && bpf_skb_vlan_pop(skb)))
		return give_up(own);
	if (read_packet(skb, &p) != KEEP || p.key.src != own->address)
		return give_up(own);
	return carry(skb, &p, own);
}

// License in bpf.go. The programs call no helper that is for GPL programs only.
char _license[] SEC("license") = "Apache-2.0";
