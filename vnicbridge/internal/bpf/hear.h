// SPDX-License-Identifier: Apache-2.0

// What userspace gets to hear: packets that the programs do not carry, and messages of ARP, NDP
// and MLD.
#pragma once

#include "arrival6.h"
#include "count.h"

// Gives a packet to userspace, which counts it: by the slow path, or to the process that
// reads the device.
static __always_inline int give_up(const struct iface *own)
{
	return own->slow ? bpf_redirect(own->slow, 0) : TC_ACT_UNSPEC;
}

// Whether a frame has the VLAN tag of another network. A frame with a priority tag counts as
// untagged (IEEE 802.1Q §6.9.1).
static __always_inline bool foreign_tag(const struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & VLAN_ID;
}

// Whether userspace is to get a message of a kind. If not, the message is counted.
static __always_inline bool is_heard(__u32 iface, __u32 len, enum message_kind kind)
{
	__u32 index = iface * MESSAGE_KINDS + kind;
	struct budget *b = bpf_map_lookup_elem(&message_budgets, &index);

	if (kind == MESSAGE_KINDS)
		count_drop_at(iface, len, DROP_ARP);
	else if (!b || !spend_message(b))
		count_drop_at(iface, len, DROP_OVERLOAD);
	else
		return true;
	return false;
}

// What the program knows of the sender of an ARP message (arp_kind in limit.h).
static __always_inline enum message_kind arp_sender(const struct iface *own, __be32 address)
{
	struct neighbour_key key = { .address = address, .iface = self };

	if (own->gateway && address == own->gateway)
		return MESSAGE_GATEWAY;
	return bpf_map_lookup_elem(&neighbours, &key) ? MESSAGE_NEIGHBOUR : MESSAGE_ANYBODY;
}

// Gives userspace a copy of an ARP message that concerns us, at a limited rate. The host gets
// all ARP too, because it may have an address of its own on the NIC. `at` is the offset of
// the message.
static __always_inline int hear_arp(struct __sk_buff *skb, const struct iface *own, __u32 at)
{
	struct arp *m = (void *)(long)skb->data + at;
	enum message_kind kind = MESSAGE_ANYBODY;	// of a truncated message too, which userspace counts

	if (!own->address)
		return TC_ACT_UNSPEC;
	if ((void *)(m + 1) <= (void *)(long)skb->data_end)
		kind = arp_kind(m, own->address, arp_sender(own, m->sender));
	if (is_heard(self, skb->len, kind))
		bpf_clone_redirect(skb, own->slow, 0);
	return TC_ACT_UNSPEC;
}

// What the program knows of a host of which NDP tells (ndp_kind in arrival6.h).
static __always_inline enum message_kind ndp_sender(const struct iface *own, const __u64 host[2])
{
	struct neighbour_key6 key = { .address = { host[0], host[1] }, .iface = self6 };

	if (same_address(host, own->gateway6))
		return MESSAGE_GATEWAY;
	return bpf_map_lookup_elem(&neighbours6, &key) ? MESSAGE_NEIGHBOUR : MESSAGE_ANYBODY;
}

// Gives userspace a message of NDP, or a query of MLD, at a limited rate. The host gets the
// message too, except one to the pseudo address, because it may have IPv6 on the NIC itself.
static __always_inline int hear_ndp(struct __sk_buff *skb, const struct iface *own, __u32 at, const struct arrival6 *p, bool to_us)
{
	enum message_kind kind = other_kind(p);
	struct ndp m;
	__u64 host[2];

	if (read_ndp(skb, at, p, &m)) {
		subject(host, p, &m);
		kind = ndp_kind(p, &m, own->address6, ndp_sender(own, host));
	}
	if (!is_heard(self6, skb->len, kind))
		return to_us ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	if (to_us)
		return give_up(own);
	bpf_clone_redirect(skb, own->slow, 0);
	return TC_ACT_UNSPEC;
}
