// SPDX-License-Identifier: Apache-2.0

// What comes in at a device behind which the server of a segment is. Other hosts may be there too,
// and the host may use the device for other purposes.
#pragma once

#include "hear.h"
#include "packet.h"

// Gives userspace a frame that needs no flow, at a limited rate. Other hosts cannot use up what the
// server may send.
static __always_inline int hear_remote(struct __sk_buff *skb, const struct iface *own, __u32 iface, const __u8 *sender)
{
	enum message_kind kind = same_mac(sender, own->gateway_mac) ? MESSAGE_GATEWAY : MESSAGE_ANYBODY;

	return is_heard(iface, skb->len, kind) ? give_up(own) : TC_ACT_SHOT;
}

// Gives userspace a copy of a message that goes to another MAC than the bridge's. It may be the
// device's own MAC, from which the bridge asks for the server while another machine has the aliases.
static __always_inline int overhear_remote(struct __sk_buff *skb, const struct iface *own, __u32 iface, const __u8 *sender)
{
	enum message_kind kind = same_mac(sender, own->gateway_mac) ? MESSAGE_GATEWAY : MESSAGE_ANYBODY;

	if (is_heard(iface, skb->len, kind))
		bpf_clone_redirect(skb, own->slow, 0);
	return TC_ACT_UNSPEC;
}

// What becomes of a packet for the bridge, of a device's iface. KEEP: the server has sent it. While the
// server is not resolved, userspace gets it, which may have the server's answer in its queue.
static __always_inline int is_servers(struct __sk_buff *skb, const struct iface *own, __u32 iface, const __u8 *sender)
{
	if (same_mac(sender, own->gateway_mac))
		return KEEP;
	if (is_zero(own->gateway_mac))
		return hear_remote(skb, own, iface, sender);
	return count_drop_at(iface, skb->len, DROP_SOURCE);
}

// sort_remote for IPv6.
__noinline int sort_remote6(struct __sk_buff *skb)
{
	__u32 iface = self6;
	struct iface *own = bpf_map_lookup_elem(&ifaces, &iface);
	struct ethhdr eth __attribute__((aligned(2)));	// same_mac reads it by 2 bytes
	struct arrival6 p;
	bool to_us;

	if (!own || bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)) || !read_ipv6(skb, IP_OFFSET, &p))
		return TC_ACT_UNSPEC;
	to_us = same_mac(eth.h_dest, own->mac);
	if (p.ip.hop_limit == NDP_HOP_LIMIT && (p.icmp_type == ICMPV6_SOLICITATION || p.icmp_type == ICMPV6_ADVERTISEMENT))
		return to_us || eth.h_dest[0] & 1 ? hear_remote(skb, own, iface, eth.h_source) :
						    overhear_remote(skb, own, iface, eth.h_source);
	if (!to_us)
		return TC_ACT_UNSPEC;
	return is_servers(skb, own, iface, eth.h_source);
}

// KEEP: a frame is the server's, and for the bridge (S2). Otherwise, what becomes of it.
__noinline int sort_remote(struct __sk_buff *skb)
{
	__u32 iface = self;
	struct iface *own = bpf_map_lookup_elem(&ifaces, &iface);
	struct ethhdr *eth = (void *)(long)skb->data;
	bool to_us;

	if (!own || (void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	if (foreign_tag(skb) || eth->h_proto == ETH_VLAN || eth->h_proto == ETH_QINQ)
		return TC_ACT_UNSPEC;	// for a VLAN device of the host's
	if (self6 && eth->h_proto == ETH_IPV6)
		return sort_remote6(skb);
	to_us = same_mac(eth->h_dest, own->mac);
	if (own->address && eth->h_proto == ETH_ARP)
		return to_us || eth->h_dest[0] & 1 ? hear_remote(skb, own, iface, eth->h_source) :
						     overhear_remote(skb, own, iface, eth->h_source);
	if (!to_us)
		return TC_ACT_UNSPEC;
	return own->address && eth->h_proto == ETH_IPV4 ? is_servers(skb, own, iface, eth->h_source) : KEEP;
}
