// SPDX-License-Identifier: Apache-2.0

// Opening a flow for its first packet. admit.go does the same in userspace.
#pragma once

#include "decide.h"
#include "packet6.h"
#include "syncookie.h"

#define TIME_WAIT (60000000000ULL >> 26)	// TimeWait in quarantine.go, in 2^26 ns

// How many aliases the programs try before userspace tries the whole pool.
#define ATTEMPTS 8

// How many other ports the programs try if userspace has found that no alias is free.
#define PORT_ATTEMPTS 4

// The rules of an iface that are in force.
#define RULES(map, iface) ({ \
	__u32 _i = (plane.half & 1) * MAX_IFACES + (iface); \
	bpf_map_lookup_elem(&map, &_i); })

static __always_inline void count_new(__u32 iface)
{
	struct counters *c = bpf_map_lookup_elem(&counts, &iface);
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);

	if (c)
		c->new_flows++;
	if (!g)
		return;
	__sync_fetch_and_add(&g->load, 1);
	spend_new(limits_of(g));
}

static __always_inline void count_flow(__u32 iface, __s64 n)
{
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);

	if (g)
		__sync_fetch_and_add(&g->flows, n);
}

static __always_inline void count_flows(const struct flow_key *orig, const struct flow_key *reply, __s64 n)
{
	count_flow(orig->iface, n);
	count_flow(reply->iface, n);
}

// Reserves a place in the table for a flow. There are never more flows than the limit.
static __always_inline bool reserve(void)
{
	if (__sync_fetch_and_add(&plane.flows, 1) < plane.limit)
		return true;
	__sync_fetch_and_add(&plane.flows, -1);
	return false;
}

static __always_inline void unreserve(void)
{
	__sync_fetch_and_add(&plane.flows, -1);
}

// Sets the state of a record to that of a flow that begins with this packet. The exchange of
// the flags is a full barrier on every CPU. So if Go's sweep sees the new flags, or the keys
// that a new record gets next, it also sees the rest of the new state.
//
// counted is FLOW_COUNTED if the record's flow before was the same client's, and is counted.
static __always_inline void begin(struct flow_record *r, __u32 number, const struct packet *p, __u32 counted)
{
	struct flow_traffic *t = answers_of(number);
	bool picked_up = !begins(p);

	r->state.last_seen = plane.clock;
	r->state.windows[FORWARD] = r->state.windows[BACKWARD] = picked_up ? MAX_SCALE : 0;
	r->sent.count = r->sent.ack = 0;
	r->sent.next = p->next;
	if (t) {
		t->count = t->ack = 0;
		// If picked up: the other side has sent what this packet acknowledges.
		t->next = picked_up ? p->ack : 0;
	}
	__sync_lock_test_and_set(&r->state.flags, (picked_up ? FLOW_PICKED_UP : 0) | counted);
}

// Ends the flow of a record that has lost its original key, except that the flow keeps its reply key.
// NOT_FOUND: there is none.
static __always_inline void end_superseded(__u32 old)
{
	struct flow_record *r = old == NOT_FOUND ? NULL : record_of(old);
	__u32 flags;

	if (!r)
		return;
	flags = __sync_fetch_and_or(&r->state.flags, FLOW_SUPERSEDED);
	if (!(flags & FLOW_SUPERSEDED)) {
		count_flows(&r->orig, &r->reply, -1);
		uncount_client(r, old, flags);
		unreserve();
	}
}

// Claims the original key for a flow whose reply key is claimed. old is the record of the
// closed flow that has the key now, or NOT_FOUND; that flow is superseded.
static __always_inline int claim_original(const struct flow_key *orig, __u32 number, __u32 old)
{
	if (point(orig, old, number) != KEEP)
		return SLOW;
	end_superseded(old);
	return KEEP;
}

// Supersedes a closed flow in favour of one that userspace opens later. old is its record, or
// NOT_FOUND. SLOW: userspace must do it.
static __always_inline int supersede(const struct flow_key *orig, __u32 old)
{
	if (old == NOT_FOUND)
		return KEEP;
	if (unpoint(orig, old) != KEEP)
		return SLOW;
	end_superseded(old);
	return KEEP;
}

// Takes a free record: the one freed last, which may still be in the caches, or else one
// that was never used.
static __always_inline int take(__u32 *number)
{
	if (!bpf_map_pop_elem(&spare, number))
		return KEEP;
	if (plane.fresh >= plane.capacity)
		return SLOW;
	*number = __sync_fetch_and_add(&plane.fresh, 1);
	return *number < plane.capacity ? KEEP : SLOW;
}

// Frees a record to which no key points.
static __always_inline void give_back(struct flow_record *record, __u32 number)
{
	words(&record->orig)[1] = 0;
	words(&record->reply)[1] = 0;
	bpf_map_push_elem(&spare, &number, BPF_ANY);
}

// Whether the record of a superseded flow is no longer needed, because the server does not
// remember the flow.
static __always_inline bool forgotten(const struct flow_record *r)
{
	__u32 flags = r->state.flags;

	return flags & FLOW_SUPERSEDED &&
	       (!(flags & FLOW_ACCEPTED) || plane.clock - r->state.last_seen >= TIME_WAIT);
}

// Whether a record's IPv6 flow has these addresses.
static __always_inline bool has_addresses(__u32 number, const struct wide_addresses *a)
{
	struct wide_addresses *w = bpf_map_lookup_elem(&wide, &number);

	return w && same_pair(&w->orig, &a->orig) && same_pair(&w->reply, &a->reply);
}

static __always_inline void set_addresses(__u32 number, const struct wide_addresses *a)
{
	struct wide_addresses *w = bpf_map_lookup_elem(&wide, &number);

	if (w)
		*w = *a;
}

// Opens a flow whose reply key is taken, which is possible only if a flow with both keys, and
// so of the same client, is over: its record is used for the new flow. DROP_NO_TUPLE: the
// reply key belongs to another flow.
static __always_inline int revive(const struct packet *p, __u32 value, __u32 old, struct found *f,
				  const struct wide_addresses *a)
{
	struct flow_record *r;

	f->number = value & ~REVERSE;
	r = record_of(f->number);
	if (!r)
		return SLOW;
	if (!(value & REVERSE) || !same_key(&r->orig, &p->key) || !same_key(&r->reply, &f->answer) ||
	    (a && !has_addresses(f->number, a)))
		return forgotten(r) ? SLOW : DROP_NO_TUPLE;
	if (!(r->state.flags & FLOW_SUPERSEDED) && !closed_for_both(r->state.flags))
		return SLOW;
	if (f->number == old) {
		begin(r, f->number, p, r->state.flags & FLOW_COUNTED);
		return KEEP;
	}
	// The record's flow is over, but it is not the last flow with this tuple, which is old.
	if (!reserve())
		return SLOW;
	if (claim_original(&p->key, f->number, old) != KEEP) {
		unreserve();
		return SLOW;
	}
	if (r->state.flags & FLOW_SUPERSEDED)
		count_flows(&p->key, &f->answer, 1);
	else
		unreserve();	// the record's flow already counts
	begin(r, f->number, p, r->state.flags & FLOW_COUNTED);
	return KEEP;
}

// Writes a flow into a free record, and makes both keys point to it. The reply key comes
// first, because only the reply key can belong to another client.
static __always_inline int fill(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	struct flow_record *r;
	__u32 number;

	if (take(&number) != KEEP)
		return SLOW;
	r = record_of(number);
	if (!r)
		return SLOW;
	f->number = number;
	words(&r->orig)[0] = words(&p->key)[0];
	words(&r->reply)[0] = words(&f->answer)[0];
	if (a)
		set_addresses(number, a);
	begin(r, f->number, p, 0);
	words(&r->orig)[1] = words(&p->key)[1];
	words(&r->reply)[1] = words(&f->answer)[1];
	if (point(&f->answer, NOT_FOUND, number | REVERSE) != KEEP) {
		give_back(r, number);
		return SLOW;
	}
	if (claim_original(&p->key, number, old) != KEEP) {
		unpoint(&f->answer, number | REVERSE);
		give_back(r, number);
		return SLOW;
	}
	count_flows(&p->key, &f->answer, 1);
	return KEEP;
}

// Whether a key may be in quarantine. It may also be another key with the same hash, which
// only Go can tell.
static __always_inline bool quarantined(const struct flow_key *key)
{
	__u64 *until;
	__u32 i;

	if ((__s32)(plane.quarantine - plane.clock) <= 0)
		return false;
	i = place_of(key).print >> 1 & (QUARANTINE - 1);
	until = bpf_map_lookup_elem(&quarantine, &i);
	return until && (__s32)((__u32)*until - plane.clock) > 0;
}

// Opens a new flow with a reply key that no flow has. SLOW: the table is full, so userspace
// must evict flows (L1).
//
// Go puts a key into quarantine before it removes the key from the table. The reservation is
// a full barrier. So a program that no longer finds the key in the table finds it in
// quarantine.
static __always_inline int create(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	int verdict;

	if (!reserve())
		return SLOW;
	if (p->key.proto == IPPROTO_TCP && quarantined(&f->answer))
		verdict = DROP_NO_TUPLE;
	else
		verdict = fill(p, old, f, a);
	if (verdict != KEEP)
		unreserve();
	return verdict;
}

// Opens the flow of a packet with the reply key f->answer. old is the record of the closed
// flow whose original tuple the packet reuses, or NOT_FOUND. a has the addresses of an IPv6
// flow; NULL: it is IPv4. DROP_NO_TUPLE: another flow has the key, or had it not long ago.
// SLOW: userspace must open the flow.
static __always_inline int open_with(const struct packet *p, __u32 old, struct found *f, const struct wide_addresses *a)
{
	__u32 taken = lookup(&f->answer);
	int verdict = room_at(p->key.iface, old != NOT_FOUND);

	if (verdict == KEEP)
		verdict = room_at(f->answer.iface, old != NOT_FOUND);
	if (verdict == KEEP && old == NOT_FOUND)
		verdict = room_for_client(&p->key, &f->answer, a);
	if (verdict == DROP_LIMIT)
		count_refused(p->key.iface, f->answer.iface);
	if (verdict != KEEP)
		return verdict;
	verdict = taken == NOT_FOUND ? create(p, old, f, a) : revive(p, taken, old, f, a);
	f->dir = FORWARD;
	if (verdict == KEEP) {
		count_new(p->key.iface);
		count_new(f->answer.iface);
		count_client(&p->key, &f->answer, a, f->number);
	}
	return verdict;
}

// Opens an IPv4 flow. It is a global function, because the verifier checks a global function
// only once.
__noinline enum drop_reason open_flow(const struct packet *p, __u32 old, struct found *f)
{
	return p && f ? open_with(p, old, f, NULL) : SLOW;
}

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
