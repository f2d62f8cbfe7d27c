// SPDX-License-Identifier: Apache-2.0

// The choice of the segment for a new flow. The first steer rule that matches decides; if
// none does, the policy decides (decision.go).
#pragma once

#include "packet.h"
#include "siphash.h"
#include "table.h"

static __always_inline bool in_set(__u32 set, __be32 address)
{
	struct prefix_key key = { .length = 64, .set = set, .address = address };

	return bpf_map_lookup_elem(&prefixes, &key);
}

// Whether no host outside can have an address (S1).
static __always_inline bool impossible(__be32 address)
{
	return in_set(plane.impossible, address);
}

// Whether a NIC, or a segment, given by its iface, denies a host outside (S7).
static __always_inline bool denied(__u32 iface, __be32 address)
{
	return in_set(DENIED_AT | iface, address);
}

// Whether the packet's destination port is in a range.
//
// This function is global, as are others that loops call, or that have loops: the verifier checks a
// global function once, and an inlined one in every iteration, and for all that its callers know.
// Loading a program would take many times as long.
__noinline int in_range(const struct port_range *r, const struct packet *p)
{
	__u16 port;

	if (!r || !p)
		return 0;
	port = bpf_ntohs(p->key.dport);
	return p->key.proto != IPPROTO_ICMP && (!r->proto || r->proto == p->key.proto) &&
	       r->first <= port && port <= r->last;
}

// in_set for the halves of an IPv6 address. It is not inlined, because the stack of admit6
// has no room for the key.
__noinline int in_set6(__u32 set, __u64 first, __u64 second)
{
	struct wide_prefix_key key = { .length = 160, .set = set, .address = { first, second } };

	return bpf_map_lookup_elem(&wide_prefixes, &key) != NULL;
}

// Whether no host outside can have an IPv6 address.
static __always_inline bool impossible6(const __u64 address[2])
{
	return in_set6(plane.impossible, address[0], address[1]);
}

// Whether a NIC or a segment denies an IPv6 host outside.
static __always_inline bool denied6(__u32 iface, const __u64 address[2])
{
	return in_set6(DENIED_AT | iface, address[0], address[1]);
}

// Whether a steer entry matches a packet of some client.
static __always_inline bool steers_by_port(const struct steer *s, const struct packet *p)
{
	return (!s->proto || s->proto == p->key.proto) && (!s->by_port || in_range(&s->ports, p));
}

// Whether a steer entry matches the packet.
__noinline int steers(const struct steer *s, const struct packet *p)
{
	return s && p && steers_by_port(s, p) && (!s->clients || in_set(s->clients, p->key.src));
}

// Whether a steer entry matches an IPv6 packet with these addresses.
__noinline int steers6(const struct steer *s, const struct packet *p, const struct address_pair *a)
{
	return s && p && a && steers_by_port(s, p) && (!s->clients || in_set6(s->clients, a->src[0], a->src[1]));
}

// The VNIC of the segment with the fewest open flows for its weight.
__noinline __u32 least_loaded(const struct decision_table *t, __u32 n)
{
	__u32 best = 0, best_weight = 1;
	__s64 best_load = 0;

	if (!t)
		return 0;
	for (__u32 i = 0; i < MAX_WEIGHED && i < n; i++) {
		__u32 iface = t->slots[i], weight = t->weights[i];
		struct gauges *g = bpf_map_lookup_elem(&meters, &iface), *other;
		__s64 load;

		if (!g)
			continue;
		other = twin_of(g);
		load = g->load + (other ? other->load : 0);
		if (!best || load * best_weight < best_load * weight) {
			best = iface;
			best_weight = weight;
			best_load = load;
		}
	}
	return best;
}

static __always_inline __u32 take_turn(__u32 iface, __s32 n)
{
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);

	return g ? __sync_fetch_and_add(&g->turn, n) : 0;
}

// The VNIC that the policy chooses. a has the addresses of an IPv6 packet; NULL: it is IPv4.
static __always_inline __u32 balance(const struct bridge_rules *b, const struct decision_table *t, const struct packet *p,
				     const struct address_pair *a)
{
	__u64 slot = 0;
	__u32 n = b->slots;

	if (!n)
		return 0;
	switch (b->index) {
	case SLOT_FIRST:
		break;
	case SLOT_IN_TURN:
		slot = take_turn(p->key.iface, 1) % n;
		break;
	case SLOT_RANDOM:
		slot = bpf_get_prandom_u32() % n;
		break;
	case SLOT_CLIENT_HASH:
		slot = (a ? hash_site6(a->src) : hash_address(p->key.src)) % n;
		break;
	case SLOT_FLOW_HASH:
		slot = (a ? hash_tuple6(&p->key, a) : hash_tuple(&p->key)) % n;
		break;
	case SLOT_LEAST_FLOWS:
		return least_loaded(t, n);
	}
	return slot < MAX_SLOTS ? t->slots[slot] : 0;
}

// Set in the result of decide if the decision depends on nothing but the flow and the rules.
// An unknown flow can then be picked up, because it had the same segment before (F5).
#define LASTING (1U << 31)

// The result of decide if userspace must learn the host name that the client asks for.
#define BY_NAME (1U << 30)

static __always_inline __u32 decide_with(const struct bridge_rules *b, const struct packet *p, const struct address_pair *a)
{
	struct decision_table *t;
	__u32 table, n;

	table = b->table;	// older verifiers (6.1) refuse a map key in an argument's memory
	t = bpf_map_lookup_elem(&tables, &table);
	if (!t)
		return 0;
	n = b->steers;
	for (__u32 i = 0; i < MAX_STEER && i < n; i++)
		if (a ? steers6(&t->steer[i], p, a) : steers(&t->steer[i], p))
			return t->steer[i].named ? BY_NAME : t->steer[i].segment | LASTING;
	n = balance(b, t, p, a);
	return b->index == SLOT_CLIENT_HASH || b->index == SLOT_FLOW_HASH ? n | LASTING : n;
}

// The index of the VNIC's iface for a new flow, or 0 if no segment gets it; and LASTING. Or BY_NAME.
__noinline __u32 decide(const struct bridge_rules *b, const struct packet *p)
{
	return b && p ? decide_with(b, p, NULL) : 0;
}

// decide for an IPv6 packet with these addresses.
__noinline __u32 decide6(const struct bridge_rules *b, const struct packet *p, const struct address_pair *a)
{
	return b && p && a ? decide_with(b, p, a) : 0;
}
