//go:build ignore

// The kernel data path: what forwarder.go does, for the packets that are common.
// One program runs on what comes in at a NIC, the other on what a segment sends;
// each is loaded once for a port. What needs thought goes to userspace as it came.
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

// Userspace's heartbeat is older than this: it is gone, and nobody may be left
// without a network by what it left behind.
#define HEARTBEAT_NS 3000000000ULL

static __always_inline bool awake(void)
{
	if (needs_heartbeat && bpf_ktime_get_ns() - plane.heartbeat > HEARTBEAT_NS)
		return false;
	return plane.mode != MODE_ASLEEP;
}

static __always_inline struct counters *count_in(__u32 len)
{
	__u32 port = self;
	struct counters *c = bpf_map_lookup_elem(&counts, &port);

	if (c) {
		c->packets_in++;
		c->bytes_in += len;
	}
	return c;
}

// Counts a packet that goes no further. It is out of the way of those that do.
__noinline int count_drop(__u32 len, __u32 reason)
{
	struct counters *c = count_in(len);

	barrier_var(reason);	// or the compiler bounds reason - 1, and older kernels do not see it
	if (c && reason < DROP_REASONS)
		c->drops[reason]++;
	return TC_ACT_SHOT;
}

static __always_inline void count_out(__u32 port, __u32 len)
{
	struct counters *c = bpf_map_lookup_elem(&counts, &port);

	if (!c)
		return;
	c->packets_out++;
	c->bytes_out += len;
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

// The MAC of the next hop to a host on a NIC's side (A7). NULL: it is to be asked for.
static __always_inline const __u8 *next_hop(const struct flow_key *answer, const struct port *nic)
{
	struct neighbour_key key = { .address = answer->src, .port = answer->port };
	struct neighbour *n;

	if (answer->src == nic->gateway || (answer->src & nic->mask) != nic->network)
		return is_zero(nic->gateway_mac) ? NULL : nic->gateway_mac;
	n = bpf_map_lookup_elem(&neighbours, &key);
	if (!n)
		return NULL;
	if (n->used != plane.clock)
		n->used = plane.clock;
	return n->mac;
}

// Whether a packet does not fit a link: as it is, or in the pieces that segmentation
// offload cuts it into. A segment's root chooses their size.
static __always_inline bool too_big(const struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	__u32 l4 = p->key.proto == IPPROTO_TCP ? sizeof(struct tcphdr) + p->options : sizeof(struct udphdr);
	bool cut = skb->gso_size && p->key.proto != IPPROTO_ICMP;

	return mtu && p->size > mtu && (!cut || sizeof(struct iphdr) + l4 + skb->gso_size > mtu);
}

// Sends a packet to the other end of its flow.
static __always_inline int forward(struct __sk_buff *skb, struct packet *p, const struct found *f, struct flow_record *r)
{
	__u32 to = f->answer.port;
	struct port *out = bpf_map_lookup_elem(&ports, &to);
	const __u8 *mac;

	if (unlikely(!out || !out->ifindex))
		return SLOW;
	if (unlikely(too_big(skb, p, out->mtu)))
		return SLOW;
	mac = out->nic ? next_hop(&f->answer, out) : out->mac;
	if (unlikely(!mac))
		return SLOW;
	observe(p, f, r);
	if (rewrite(skb, p, &f->answer, out, mac) != KEEP)
		return SLOW;
	count_in(p->len);
	count_out(to, p->len);
	return bpf_redirect(out->ifindex, out->redirect);
}

// Gives a packet to userspace, which counts it.
static __always_inline int give_up(const struct port *own)
{
	return own->slow ? bpf_redirect(own->slow, 0) : TC_ACT_UNSPEC;
}

// Moves a packet that was read to the other end of its flow, which it may open.
static __always_inline int carry(struct __sk_buff *skb, struct packet *p, const struct port *own)
{
	struct found f = {};
	struct flow_record *r = find(&p->key, &f);
	int verdict = SLOW;

	if (unlikely(plane.mode != MODE_FAST))
		return give_up(own);
	if (unlikely(p->tcp_flags & TCP_SYN))
		p->scale = window_scale(skb, p->options);
	if (unlikely(!r || reopens(p, r))) {
		__u32 old = r ? f.number : NOT_FOUND;

		verdict = own->nic ? admit_inbound(p, old, &f) : admit_outbound(p, old, &f);
		if (verdict != KEEP && verdict != SLOW && own->nic)
			return count_drop(p->len, verdict);
		// What a segment's sender sees dropped is an error to it (ENOBUFS): userspace
		// drops that, as a wire would.
		r = verdict == KEEP ? record_of(f.number) : NULL;
	}
	if (r)
		verdict = forward(skb, p, &f, r);
	return r && verdict != SLOW ? verdict : give_up(own);
}

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

// How many packets that no program can carry a NIC's program leaves to userspace:
// 40,000 a second. Large datagrams come in bursts of fragments. At most half of them
// are fragments whose first one has not come.
#define ODD_PACKETS 671
#define ODD_INTERVALS 4

// How many fragments may follow a first one: those of the largest datagram at an MTU of
// 1500, and some.
#define FOLLOWERS 64

// Whether a packet is a fragment whose first one has not come. A flood of such fragments
// must not keep out those that come in order.
static __always_inline bool is_stray(const struct iphdr *ip)
{
	struct flow_key key = { .src = ip->saddr, .dst = ip->daddr, .sport = ip->id, .port = self, .proto = ip->protocol };
	__s32 *left;
	__u32 i;

	if (!(ip->frag_off & (IP_MORE | IP_LATER)))
		return false;
	i = place_of(&key).print >> 1 & (MAX_LEADS - 1);
	left = bpf_map_lookup_elem(&leads, &i);
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

// Gives such a packet to userspace: a fragment, for one. A flood of them is not to keep
// it from all else, nor for long at a time.
static __always_inline int give_up_odd(const struct port *own, const struct iphdr *ip, __u32 len)
{
	if (plane.mode != MODE_FAST)
		return give_up(own);
	if (is_stray(ip) && !spend(&plane.strays, ODD_PACKETS / 2, ODD_INTERVALS))
		return count_drop(len, DROP_OVERLOAD);
	if (!spend(&plane.odd, ODD_PACKETS, ODD_INTERVALS))
		return count_drop(len, DROP_OVERLOAD);
	return give_up(own);
}

// How much ARP of one kind a NIC's program leaves to userspace: 4,000 frames a second,
// and as many at once.
#define ARP_PACKETS 68
#define ARP_INTERVALS 60

// What an ARP frame is to us. ARP_KINDS: nothing.
__noinline enum arp_kind arp_kind(struct __sk_buff *skb)
{
	__u32 port = self;
	struct port *own = bpf_map_lookup_elem(&ports, &port);
	struct arp *m = (void *)(long)skb->data;
	struct neighbour_key sender = { .port = port };

	if (!own)
		return ARP_KINDS;
	if ((void *)(m + 1) > (void *)(long)skb->data_end || m->hardware != ARP_ETHERNET || m->protocol != ETH_IPV4 ||
	    m->hardware_length != 6 || m->protocol_length != 4 || (m->operation != ARP_REQUEST && m->operation != ARP_REPLY))
		return ARP_ANYBODY;	// userspace finds that it is malformed
	sender.address = m->sender;
	if (own->gateway && m->sender == own->gateway)
		return ARP_GATEWAY;
	if (m->target == own->address && m->operation == ARP_REPLY)
		return ARP_ANSWER;
	if (bpf_map_lookup_elem(&neighbours, &sender))
		return ARP_NEIGHBOUR;
	return m->target == own->address || m->sender == own->address ? ARP_ANYBODY : ARP_KINDS;
}

// Gives userspace a copy of the ARP that is our business. The host gets all ARP: it
// may have an address of its own on the NIC.
static __always_inline int hear_arp(struct __sk_buff *skb, const struct port *own)
{
	enum arp_kind kind = arp_kind(skb);
	__u32 index = self * ARP_KINDS + kind;
	struct budget *b = bpf_map_lookup_elem(&arp_budgets, &index);

	if (kind == ARP_KINDS)
		count_drop(skb->len, DROP_ARP);
	else if (!b || !spend(b, ARP_PACKETS, ARP_INTERVALS))
		count_drop(skb->len, DROP_OVERLOAD);
	else
		bpf_clone_redirect(skb, own->slow, 0);
	return TC_ACT_UNSPEC;
}

// Whether a frame has a tag of another network. A priority tag is none: such a frame is
// an untagged one (IEEE 802.1Q, 6.9.1).
static __always_inline bool foreign_tag(const struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & VLAN_ID;
}

// What comes in at a NIC with a tag in its bytes. The kernel takes a first tag out of
// them, so that there is hardly any: userspace takes a priority tag off.
static __always_inline int from_nic_tagged(struct __sk_buff *skb, const struct port *own)
{
	struct tagged *f = (void *)(long)skb->data;

	if (skb->vlan_present || (void *)&f->ip > (void *)(long)skb->data_end || f->control & bpf_htons(VLAN_ID))
		return TC_ACT_UNSPEC;
	if (f->proto == ETH_ARP) {
		if (spend(&plane.odd, ODD_PACKETS, ODD_INTERVALS))
			bpf_clone_redirect(skb, own->slow, 0);
		return TC_ACT_UNSPEC;
	}
	if (f->proto != ETH_IPV4 || (void *)(f + 1) > (void *)(long)skb->data_end || f->ip.daddr != own->address)
		return TC_ACT_UNSPEC;
	return give_up_odd(own, &f->ip, skb->len);
}

// What comes in at a NIC. Only what is for the pseudo address is ours (S1); ARP is
// everybody's.
SEC("tc")
int from_nic(struct __sk_buff *skb)
{
	__u32 port = self;
	struct port *own = bpf_map_lookup_elem(&ports, &port);
	struct packet p = {};
	struct ethhdr *eth;
	struct iphdr *ip;

	if (!own || !awake() || !pull_headers(skb))
		return TC_ACT_UNSPEC;
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	if (unlikely(eth->h_proto == ETH_ARP && !foreign_tag(skb)))
		return hear_arp(skb, own);
	if (unlikely(eth->h_proto == ETH_VLAN || eth->h_proto == ETH_QINQ))
		return from_nic_tagged(skb, own);
	ip = (void *)(eth + 1);
	if (eth->h_proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end || ip->daddr != own->address)
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
		return give_up_odd(own, ip, skb->len);
	return carry(skb, &p, own);
}

// What a segment sends. All of it is ours; only packets of its own address leave
// (S2).
SEC("tc")
int from_vnic(struct __sk_buff *skb)
{
	__u32 port = self;
	struct port *own = bpf_map_lookup_elem(&ports, &port);
	struct packet p = {};
	struct ethhdr *eth;

	if (!own || !awake())
		return TC_ACT_UNSPEC;
	if (!pull_headers(skb))
		return give_up(own);
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > (void *)(long)skb->data_end || eth->h_proto != ETH_IPV4 ||
	    foreign_tag(skb) || eth->h_dest[0] & 1)
		return give_up(own);
	if (unlikely(skb->vlan_present && bpf_skb_vlan_pop(skb)))
		return give_up(own);
	if (read_packet(skb, &p) != KEEP || p.key.src != own->address)
		return give_up(own);
	return carry(skb, &p, own);
}

char _license[] SEC("license") = "GPL";
