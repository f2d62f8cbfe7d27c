// SPDX-License-Identifier: Apache-2.0

// Which flow the first packet of one opens, if any. admit.go does the same in userspace.
#pragma once

#include "decide.h"
#include "open.h"
#include "syncookie.h"

// How many aliases the programs try before userspace tries the whole pool.
#define ATTEMPTS 8

// How many other ports the programs try if userspace has found that no alias is free.
#define PORT_ATTEMPTS 4

// The rules of an iface that are in force.
#define RULES(map, iface) ({ \
	__u32 _i = (plane.half & 1) * MAX_IFACES + (iface); \
	bpf_map_lookup_elem(&map, &_i); })

// The alias with an index. The aliases of a segment are consecutive addresses, except for
// the gaps.
__noinline __u32 alias_at(const struct segment_rules *s, __u32 index)
{
	__u32 address;

	if (!s)
		return 0;
	address = s->first_alias + index;
	for (int i = 0; i < MAX_GAPS && i < s->gaps; i++)
		if (address >= s->gap[i])
			address++;
	return bpf_htonl(address);
}

// The index of the i-th alias to try: aliasPool.probe in alias.go.
__noinline __u32 probe(__u32 reserved, __u32 shared, __u32 preferred, __u32 i)
{
	if (preferred < reserved) {
		if (i == 0)
			return preferred;
		i--;
		preferred = reserved;
	}
	if (i < shared)
		return reserved + (preferred - reserved + i) % shared;
	return i - shared;
}

static __always_inline __u32 preferred_alias(const struct segment_rules *s, const struct bridge_rules *b, const struct packet *p)
{
	__u32 shared = s->aliases - s->gateways;

	if (p->key.src == b->gateway && b->gateway)
		for (int i = 0; i < MAX_GATEWAYS && i < s->gateways; i++)
			if (s->gateway[i] == self)
				return i;
	if (s->aliases <= s->gateways)
		return 0;
	return s->gateways + hash_address(p->key.src) % shared;
}

// Sets the key of the answers to this packet, except its destination address. host is the
// address that answers, at an iface.
static __always_inline void answer_from(struct flow_key *answer, const struct packet *p, __be32 host, __u32 iface)
{
	answer->src = host;
	answer->sport = p->key.dport;
	answer->dport = p->key.sport;
	answer->iface = iface;
	answer->proto = p->key.proto;
}

// A port, or ICMP identifier, in place of one that is taken: randomPort in alias.go.
static __always_inline __be16 random_port(__be16 port)
{
	__u32 n = bpf_get_prandom_u32();

	return bpf_ntohs(port) < 1024 ? bpf_htons(1 + n % 1023) : bpf_htons(1024 + n % (65536 - 1024));
}

// Opens a flow with another source port. This is allowed if userspace has found 64 times
// that no alias is free for the flow's own port, for the next 250 ms (saturation.go).
static __always_inline int open_mapped(const struct packet *p, __be32 alias, __u32 old, struct found *f)
{
	f->answer.dst = 0;
	if (!quarantined(&f->answer))
		return SLOW;
	f->answer.dst = alias;
	for (__u64 i = 0; i < PORT_ATTEMPTS; i++) {
		int verdict;

		f->answer.dport = random_port(p->key.sport);
		verdict = open_flow(p, old, f);
		if (verdict != DROP_NO_TUPLE)
			return verdict;
	}
	return SLOW;
}

// Opens a flow from the network to a segment. The segment sees the client under the client's
// own address, or under the first alias that is free.
static __always_inline int open_inbound(const struct packet *p, const struct bridge_rules *b, const struct segment_rules *s,
					__u32 to, __u32 old, struct found *f)
{
	__u32 preferred, tries = s->aliases < ATTEMPTS ? s->aliases : ATTEMPTS;
	__u32 reserved = s->gateways, shared = s->aliases - reserved;
	int verdict;

	answer_from(&f->answer, p, s->address, to);
	if (s->preserve) {
		f->answer.dst = p->key.src;
		verdict = open_flow(p, old, f);
		return verdict == DROP_NO_TUPLE ? SLOW : verdict;
	}
	preferred = preferred_alias(s, b, p);
	// The verifier of Linux 5.15 forgets the bounds of 32-bit values on the stack.
	for (__u64 i = 0; i < ATTEMPTS && i < tries; i++) {
		f->answer.dst = alias_at(s, probe(reserved, shared, preferred, i));
		verdict = open_flow(p, old, f);
		if (verdict != DROP_NO_TUPLE)
			return verdict;
	}
	return open_mapped(p, alias_at(s, preferred), old, f);
}

// Refuses a new flow. SLOW: userspace must answer. There is no answer to a RST, to an echo
// reply, or beyond the rate limit.
static __always_inline int refuse(const struct packet *p, int reason)
{
	if (p->key.proto == IPPROTO_TCP && p->tcp_flags & TCP_RST)
		return reason;
	if (p->key.proto == IPPROTO_ICMP && p->icmp_type != ICMP_ECHO_REQUEST)
		return reason;
	if (plane.refusals <= 0 || __sync_fetch_and_add(&plane.refusals, -1) <= 0)
		return reason;
	return SLOW;
}

static __always_inline int refuse_flow(const struct bridge_rules *b, const struct packet *p, int reason)
{
	return b->silent ? reason : refuse(p, reason);
}

// Whether the port of a new flow is open on a segment. Echo requests always enter.
__noinline int enters(const struct segment_rules *s, const struct packet *p)
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

// Opens a flow from the network to the VNIC `to`, or refuses the flow.
static __always_inline int admit_to(const struct packet *p, const struct bridge_rules *b, __u32 to, bool lasting,
				    __u32 old, struct found *f)
{
	struct segment_rules *s;

	if (!begins(p) && !(lasting && continues(p)))
		return refuse(p, DROP_NO_FLOW);
	if (!to)
		return refuse_flow(b, p, DROP_NO_SEGMENT);
	s = RULES(segments, to);
	if (!s || !s->live)
		return SLOW;
	if (denied(to, p->key.src))
		return DROP_DENIED;
	if (!enters(s, p))
		return refuse_flow(b, p, DROP_PORT);
	return open_inbound(p, b, s, to, old, f);
}

// Not a drop: the program itself answers the SYN, with a cookie.
#define COOKIE (SLOW + 1)

// Not a drop either: the bridge holds what the packet brings.
#define AGAIN (SLOW + 3)

// Whether a greeted client only repeats what the bridge holds, because nobody acknowledges that before
// its server does (N6): brings in greeting.go. Many clients repeat at once, and userspace would be
// busy with that while others wait. Go may change the entry meanwhile; but the acknowledgment number, which
// nobody can guess, tells for whom it is.
static __always_inline bool is_held(const struct packet *p)
{
	struct place at = place_of(&p->key);
	__u32 slot = at.far & (HELD_SLOTS - 1);
	struct held *h = bpf_map_lookup_elem(&held, &slot);
	__u32 length;

	if (!h || !continues(p) || p->tcp_flags & TCP_FIN || !same_key(&h->key, &p->key) || p->ack != h->ack)
		return false;
	length = h->to - h->from;
	return p->seq - h->from <= length && p->next - h->from <= length;
}

// What becomes of a packet whose segment depends on a name: greet in greeting.go.
static __always_inline int by_name(const struct packet *p)
{
	if (p->key.proto != IPPROTO_TCP)
		return SLOW;
	if (is_held(p))
		return AGAIN;
	if (!begins(p) || may_keep())
		return SLOW;
	return p->next == p->seq + 1 ? COOKIE : DROP_OVERLOAD;
}

// Opens a flow from the network to a segment. Only here are segments chosen, so a flow keeps
// its segment (F1).
__noinline enum drop_reason admit_inbound(const struct packet *p, __u32 old, struct found *f)
{
	struct bridge_rules *b = RULES(bridges, self);
	__u32 to, lasting;
	int verdict;

	if (!p || !f || !b || !b->live)
		return SLOW;
	if (stands_by(self))
		return DROP_STANDBY;
	if (impossible(p->key.src))
		return DROP_SOURCE;
	if (denied(self, p->key.src))
		return DROP_DENIED;
	to = decide(b, p);
	if (to == BY_NAME)
		return by_name(p);
	lasting = to & LASTING;
	verdict = admit_to(p, b, to & ~LASTING, lasting, old, f);
	if (verdict == SLOW && b->index == SLOT_IN_TURN && b->slots && !lasting)
		take_turn(self, -1);	// userspace will take this turn
	return verdict;
}

// The index of the NIC by which a segment may reach the packet's destination, or 0 if it may
// not. host becomes the host for which that address stands.
static __always_inline __u32 egress(const struct segment_rules *s, const struct packet *p, __be32 *host)
{
	struct bridge_rules *b;

	if (s->egress == EGRESS_OFF || !s->gateways)
		return 0;
	for (__u32 i = 0; i < MAX_GATEWAYS && i < s->gateways; i++) {
		if (alias_at(s, i) != p->key.dst)
			continue;
		b = RULES(bridges, s->gateway[i]);
		*host = b ? b->gateway : 0;
		return s->gateway[i];
	}
	*host = p->key.dst;
	b = RULES(bridges, s->gateway[0]);
	if ((s->egress == EGRESS_ANY && !impossible(p->key.dst)) ||
	    (s->preserve && b && p->key.dst == b->gateway))
		return s->gateway[0];
	return 0;
}

// Opens a flow from a segment to another one that it may reach (S3). SLOW: userspace must
// refuse the flow, and answers the sender.
static __always_inline int admit_to_peer(const struct packet *p, const struct peer *peer, __u32 old, struct found *f)
{
	struct segment_rules *s = RULES(segments, peer->to);
	int verdict;

	if (!s || !s->live || !begins(p) || !enters(s, p) || stands_by(peer->to))
		return SLOW;
	answer_from(&f->answer, p, s->address, peer->to);
	f->answer.dst = peer->there;
	verdict = open_flow(p, old, f);
	return verdict == DROP_NO_TUPLE ? SLOW : verdict;
}

// The index of the segment that a segment reaches by an address, or MAX_PEERS.
__noinline __u32 peer_at(const struct segment_rules *s, __be32 address)
{
	if (!s)
		return MAX_PEERS;
	for (__u32 i = 0; i < MAX_PEERS && i < s->peers; i++)
		if (s->peer[i].here == address)
			return i;
	return MAX_PEERS;
}

// Opens a flow from a segment, if its egress rule or its reach allows it (F12). SLOW: among
// others, another segment uses the source port, so userspace must choose another one.
__noinline enum drop_reason admit_outbound(const struct packet *p, __u32 old, struct found *f)
{
	struct segment_rules *s = RULES(segments, self);
	struct iface *nic;
	__u32 to, peer;
	__be32 host;
	int verdict;

	if (!p || !f || !s || !s->live)
		return SLOW;
	if (stands_by(self))
		return DROP_STANDBY;
	peer = peer_at(s, p->key.dst);
	if (peer < MAX_PEERS)
		return admit_to_peer(p, &s->peer[peer], old, f);
	to = egress(s, p, &host);
	if (!to)
		return DROP_EGRESS;
	if (denied(to, host) || denied(self, host))
		return DROP_DENIED;
	if (!begins(p))
		return DROP_NO_FLOW;
	if (stands_by(to))
		return DROP_STANDBY;
	nic = bpf_map_lookup_elem(&ifaces, &to);
	if (!nic)
		return SLOW;
	answer_from(&f->answer, p, host, to);
	f->answer.dst = nic->address;
	verdict = open_flow(p, old, f);
	return verdict == DROP_NO_TUPLE ? SLOW : verdict;
}
