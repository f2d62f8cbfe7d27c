// SPDX-License-Identifier: Apache-2.0

// Opening an IPv6 flow for its first packet. admit.h does the same for IPv4, and explains it.
#pragma once

#include "admit.h"

// How many aliases of a client are tried: derivedAttempts in alias.go.
#define DERIVED_ATTEMPTS 4

// Opens the flow of a packet with the addresses a->orig, whose answers have a->reply.
// f->answer is complete, except for the addresses.
__noinline enum drop_reason open_flow6(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	__u64 *words;

	if (!p || !f || !a)
		return SLOW;
	words = (void *)&f->answer;
	words[0] = digest(&a->reply);
	return open_with(p, old, f, a);
}

// Sets the key of the answers to this packet, except for the addresses.
static __always_inline void answer_at(struct flow_key *answer, const struct packet *p, __u32 iface)
{
	answer->sport = p->key.dport;
	answer->dport = p->key.sport;
	answer->iface = iface;
	answer->proto = p->key.proto;
	answer->family = FAMILY_IPV6;
}

// Opens a flow with a->reply. If the tuple is taken, userspace must choose another one.
static __always_inline int open_only(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	int verdict = open_flow6(p, old, f, a);

	return verdict == DROP_NO_TUPLE ? SLOW : verdict;
}

// The alias under which the segment sees the gateway of this NIC, or NULL.
static __always_inline const __u64 *gateway_alias6(const struct wide_segment_rules *s)
{
	for (__u64 i = 0; i < MAX_GATEWAYS && i < s->gateways; i++)
		if (s->gateway[i] == self6)
			return s->alias[i];
	return NULL;
}

// Opens a flow from the network to a segment: open_inbound for IPv6.
static __always_inline int open_inbound6(const struct packet *p, const struct wide_segment_rules *s, __u32 to, __u32 old,
					 struct found *f, struct wide_addresses *a, const struct iface *nic)
{
	const __u64 *client = a->orig.src, *alias = gateway_alias6(s);
	__u64 hash;

	answer_at(&f->answer, p, to);
	copy_address(a->reply.src, s->address);
	if (s->preserve && !is_link_local(client)) {
		copy_address(a->reply.dst, client);
		return open_only(p, old, f, a);
	}
	if (alias && same_address(client, nic->gateway6)) {
		copy_address(a->reply.dst, alias);
		return open_only(p, old, f, a);
	}
	hash = hash_address6(client[0], client[1]);
	a->reply.dst[0] = s->network;
	for (__u64 i = 0; i < DERIVED_ATTEMPTS; i++) {
		int verdict;

		a->reply.dst[1] = bpf_cpu_to_be64(1ULL << 63 | ((hash + i) & ((1ULL << 62) - 1)));
		verdict = open_flow6(p, old, f, a);
		if (verdict != DROP_NO_TUPLE)
			return verdict;
	}
	return SLOW;
}

// Whether the port of a new flow is open on a segment: enters for IPv6.
__noinline int enters6(const struct wide_segment_rules *s, const struct packet *p)
{
	if (!s || !p)
		return false;
	if (p->key.proto == IPPROTO_ICMP)
		return true;
	for (int i = 0; i < MAX_RANGES && i < s->ranges; i++)
		if (in_range(&s->range[i], p))
			return true;
	return false;
}

// Opens a flow from the network to the VNIC `to`, or refuses the flow: admit_to for IPv6.
static __always_inline int admit_to6(const struct packet *p, const struct bridge_rules *b, __u32 to, bool lasting, __u32 old,
				     struct found *f, struct wide_addresses *a, const struct iface *nic)
{
	struct wide_segment_rules *s;

	if (!begins(p) && !(lasting && continues(p)))
		return refuse(p, DROP_NO_FLOW);
	if (!to)
		return refuse_flow(b, p, DROP_NO_SEGMENT);
	s = RULES(wide_segments, to);
	if (!s || !s->live)
		return SLOW;
	if (denied6(to, a->orig.src))
		return DROP_DENIED;
	if (!enters6(s, p))
		return refuse_flow(b, p, DROP_PORT);
	return open_inbound6(p, s, to, old, f, a, nic);
}

// Opens a flow from the network to a segment: admit_inbound for IPv6.
static __always_inline int admit_inbound6(const struct packet *p, __u32 old, struct found *f, struct wide_addresses *a,
					  const struct iface *nic)
{
	struct bridge_rules *b = RULES(bridges, self6);
	__u32 to, lasting;
	int verdict;

	if (!b || !b->live)
		return SLOW;
	if (stands_by(self6))
		return DROP_STANDBY;
	if (impossible6(a->orig.src))
		return DROP_SOURCE;
	if (denied6(self6, a->orig.src))
		return DROP_DENIED;
	to = decide6(b, p, &a->orig);
	if (to == BY_NAME)
		return by_name(p);
	lasting = to & LASTING;
	verdict = admit_to6(p, b, to & ~LASTING, lasting, old, f, a, nic);
	if (verdict == SLOW && b->index == SLOT_IN_TURN && b->slots && !lasting)
		take_turn(self6, -1);	// userspace will take this turn
	return verdict;
}

// The index of the alias of a gateway, or NOT_FOUND.
static __always_inline __u32 gateway_of_alias(const struct wide_segment_rules *s, const __u64 alias[2])
{
	for (__u64 i = 0; i < MAX_GATEWAYS && i < s->gateways; i++)
		if (same_address(s->alias[i], alias))
			return i;
	return NOT_FOUND;
}

// Sets the host for which the destination of a packet from a segment stands at a NIC. Returns
// false if the segment may not reach it: Ruleset.Egress in ruleset.go.
static __always_inline bool set_host(const struct wide_segment_rules *s, const struct iface *nic, bool by_alias,
				     const __u64 dst[2], __u64 host[2])
{
	bool gateway = same_address(dst, nic->gateway6);

	copy_address(host, by_alias ? nic->gateway6 : dst);
	return by_alias || (s->egress == EGRESS_ANY && !impossible6(dst)) || (s->preserve && gateway && !is_link_local(dst));
}

// Opens a flow from a segment to another one that it may reach: admit_to_peer for IPv6.
static __always_inline int admit_to_peer6(const struct packet *p, const struct wide_peer *peer, __u32 old, struct found *f,
					  struct wide_addresses *a)
{
	struct wide_segment_rules *s = RULES(wide_segments, peer->to);

	if (!s || !s->live || !begins(p) || !enters6(s, p) || stands_by(peer->to))
		return SLOW;
	answer_at(&f->answer, p, peer->to);
	copy_address(a->reply.src, s->address);
	copy_address(a->reply.dst, peer->there);
	return open_only(p, old, f, a);
}

// The index of the segment that a segment reaches by an address, or MAX_PEERS: peer_at for IPv6.
__noinline __u32 peer_at6(const struct wide_segment_rules *s, const struct wide_addresses *a)
{
	if (!s || !a)
		return MAX_PEERS;
	for (__u32 i = 0; i < MAX_PEERS && i < s->peers; i++)
		if (same_address(s->peer[i].here, a->orig.dst))
			return i;
	return MAX_PEERS;
}

// Opens a flow from a segment, if its egress rule or its reach allows it: admit_outbound for
// IPv6.
static __always_inline int admit_outbound6(const struct packet *p, __u32 old, struct found *f, struct wide_addresses *a)
{
	struct wide_segment_rules *s = RULES(wide_segments, self6);
	struct iface *nic;
	bool by_alias;
	__u32 to, peer;

	if (!s || !s->live)
		return SLOW;
	if (stands_by(self6))
		return DROP_STANDBY;
	peer = peer_at6(s, a);
	if (peer < MAX_PEERS)
		return admit_to_peer6(p, &s->peer[peer], old, f, a);
	if (s->egress == EGRESS_OFF || !s->gateways)
		return DROP_EGRESS;
	to = gateway_of_alias(s, a->orig.dst);
	by_alias = to < MAX_GATEWAYS;
	to = s->gateway[by_alias ? to : 0];
	nic = bpf_map_lookup_elem(&ifaces, &to);
	if (!nic)
		return SLOW;
	if (!set_host(s, nic, by_alias, a->orig.dst, a->reply.src))
		return DROP_EGRESS;
	if (denied6(to, a->reply.src) || denied6(self6, a->reply.src))
		return DROP_DENIED;
	if (!begins(p))
		return DROP_NO_FLOW;
	if (stands_by(to))
		return DROP_STANDBY;
	answer_at(&f->answer, p, to);
	copy_address(a->reply.dst, nic->address6);
	return open_only(p, old, f, a);
}
