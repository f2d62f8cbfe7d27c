// SPDX-License-Identifier: Apache-2.0

// Finding a packet's flow, and following its TCP state.
#pragma once

#include "flowlimit.h"
#include "packet.h"

enum direction { FORWARD, BACKWARD };

// A packet's flow. The key is a copy, because Go may reuse the record at any time.
struct found {
	struct flow_key answer;	// the key of the other direction
	__u32 number;		// of the record
	__u32 dir;		// of the packet
};

static __always_inline void copy_key(struct flow_key *to, const struct flow_key *from)
{
	__u64 *y = (void *)to;

	y[0] = words(from)[0];
	y[1] = words(from)[1];
}

// Returns 0, computed so that the CPU must have `loaded` first. x86 loads in program order, but
// arm64 does so only if the address of the second load depends on the result of the first one. The
// dependency is an added 0. The inline assembler hides the 0 from the compiler, but the verifier can
// see it.
static __always_inline __u64 nothing_after(__u64 loaded)
{
	asm volatile("%0 &= 0" : "+r"(loaded));
	return loaded;
}

// Returns `key`, computed so that the CPU cannot load it before `loaded`.
static __always_inline const struct flow_key *after_words(__u64 loaded, const struct flow_key *key)
{
	return (const void *)key + nothing_after(loaded);
}

static __always_inline const struct flow_key *after(const struct flow_key *loaded, const struct flow_key *key)
{
	const __u64 *x = (const void *)loaded;

	return after_words(x[0] | x[1], key);
}

// Finds the living flow of a key, or returns NULL.
//
// To reuse a record, Go or a program clears `orig`, clears `reply`, writes `orig`, then
// writes `reply`. A reader that loads the opposite key and then finds its own key unchanged
// knows that both keys belong to one flow. (The second word of a key decides: it alone is
// cleared, and it is written after the addresses.)
static __always_inline struct flow_record *find(const struct flow_key *key, struct found *f)
{
	__u32 value = lookup(key);
	struct flow_record *r;
	struct flow_key own;

	if (value == NOT_FOUND)
		return NULL;
	f->dir = value & REVERSE ? BACKWARD : FORWARD;
	f->number = value & ~REVERSE;
	r = record_of(f->number);
	if (!r)
		return NULL;
	if (f->dir == FORWARD) {
		copy_key(&f->answer, &r->reply);
		copy_key(&own, after(&f->answer, &r->orig));
	} else {
		copy_key(&f->answer, &r->orig);
		copy_key(&own, after(&f->answer, &r->reply));
	}
	if (!f->answer.iface || !same_key(&own, key) || r->state.flags & FLOW_SUPERSEDED)
		return NULL;
	return r;
}

// The traffic to the opener of a record's flow.
static __always_inline struct flow_traffic *answers_of(__u32 number)
{
	return bpf_map_lookup_elem(&answers, &number);
}

#define FLOW_FINS (FLOW_FIN | FLOW_FIN << 1)

static __always_inline bool closing(__u32 flags)
{
	return flags & FLOW_RESET || (flags & FLOW_FINS) == FLOW_FINS;
}

// Whether the connection is over for both sides: closedForBoth in tcpstate.go.
static __always_inline bool closed_for_both(__u32 flags)
{
	return flags & FLOW_OVER || (flags & FLOW_FINS) == FLOW_FINS;
}

static __always_inline void add_load(__u32 iface, __s64 n)
{
	struct gauges *g = bpf_map_lookup_elem(&meters, &iface);

	if (g)
		__sync_fetch_and_add(&g->load, n);
}

// Updates the load of the flow's ifaces after its flags have changed. A closing flow is no
// load.
static __always_inline void settle(const struct packet *p, const struct found *f, __u32 before, __u32 after)
{
	__s64 n = (__s64)closing(before) - closing(after);

	if (n) {
		add_load(p->key.iface, n);
		add_load(f->answer.iface, n);
		recount_client(f->number, n < 0);
	}
}

static __always_inline bool acknowledges(const struct packet *p)
{
	return (p->tcp_flags & (TCP_ACK | TCP_RST)) == TCP_ACK;
}

// What a direction of a record's flow has sent.
static __always_inline struct flow_traffic *traffic_of(struct flow_record *r, __u32 number, __u32 dir)
{
	return dir == FORWARD ? &r->sent : answers_of(number);
}

// The flags that a RST or a FIN adds: believed in tcpstate.go. If the other side would not
// accept the segment, it adds none, because anybody may have forged it (F4).
__noinline __u32 believed(const struct packet *p, const struct found *f)
{
	struct flow_record *r;
	struct flow_traffic *other;
	__u32 flags, window, at;
	bool acked;

	if (!p || !f)
		return 0;
	r = record_of(f->number);
	if (!r)
		return 0;
	other = traffic_of(r, f->number, !f->dir);
	if (!other)
		return 0;
	flags = r->state.flags;
	acked = flags & FLOW_ACKED << !f->dir;
	window = f->dir == FORWARD ? r->state.windows[BACKWARD] : r->state.windows[FORWARD];
	window = (window >> 8) << (window & 15);
	if (!(p->tcp_flags & TCP_RST)) {
		at = p->next - 1;
		if (acked ? at - other->ack <= window : flags & FLOW_PICKED_UP)
			return FLOW_FIN << f->dir;
		return 0;
	}
	if (acked && p->seq - other->ack <= window)
		return f->dir == BACKWARD || p->seq == other->ack ? FLOW_RESET | FLOW_OVER : FLOW_RESET;
	// The opener may revoke its SYN. The other side may refuse a SYN: the first one, or one
	// on a flow that is closing.
	if (f->dir == FORWARD ? !acked && p->seq == r->sent.next :
	    (!acked || closing(flags)) && p->tcp_flags & TCP_ACK && p->ack == other->next)
		return FLOW_RESET | FLOW_OVER;
	return 0;
}

// A segment that ends less than this many bytes before the highest number sent is a
// retransmission, and otherwise belongs to a new connection: repeated in tcpstate.go.
#define REPEATED (1 << 24)

// Records the numbers and the window of a segment with an ACK.
static __always_inline void observe_numbers(const struct packet *p, const struct found *f, struct flow_state *s,
					    struct flow_traffic *t)
{
	__u32 window = s->windows[f->dir & 1];

	t->ack = p->ack;
	if (t->next - p->next - 1 >= REPEATED)
		t->next = p->next;
	if (unlikely(p->window > window >> 8))
		s->windows[f->dir & 1] = p->window << 8 | (window & 0xff);
}

// Records the numbers and the window of a SYN. A SYN on an established flow does not count,
// because it may be forged.
static __always_inline void observe_syn(const struct packet *p, const struct found *f, struct flow_state *s,
					struct flow_traffic *t)
{
	if (p->tcp_flags & TCP_ACK)
		t->ack = p->ack;
	if (s->flags & FLOW_ESTABLISHED && !closing(s->flags))
		return;
	t->next = p->next;
	// A SYN's own window is unscaled.
	s->windows[f->dir & 1] = (p->window + (1U << p->scale) - 1) >> p->scale << 8 | p->scale;
}

// Updates the flags of a TCP connection, as a middlebox sees it: nextFlags in tcpstate.go.
static __always_inline void observe_tcp(const struct packet *p, const struct found *f, struct flow_state *s)
{
	__u32 flags = s->flags, add = 0, drop = 0, before;

	if (acknowledges(p))
		add |= FLOW_ACKED << f->dir;
	if (unlikely(p->tcp_flags & TCP_RST)) {
		add |= believed(p, f);
	} else if (unlikely(p->tcp_flags & TCP_SYN)) {
		if (f->dir == BACKWARD && p->tcp_flags & TCP_ACK) {
			add |= FLOW_ACCEPTED;
			if (flags & FLOW_RESET)	// the tuple's next connection
				drop = ~(FLOW_ACCEPTED | FLOW_ACKED << BACKWARD | FLOW_SUPERSEDED | FLOW_COUNTED);
		}
	} else {
		// A RST can be forged. Traffic after it shows that the connection lives
		// (RFC 7857 §2.2).
		drop = flags & (FLOW_RESET | FLOW_OVER);
		if (flags & FLOW_PICKED_UP && f->dir == BACKWARD)
			add |= FLOW_ACCEPTED;
		if ((flags | add) & FLOW_ACCEPTED && p->tcp_flags & TCP_ACK &&
		    (f->dir == FORWARD || (flags & FLOW_PICKED_UP && flags & FLOW_ACKED)))
			add |= FLOW_ESTABLISHED;
		if (unlikely(p->tcp_flags & TCP_FIN))
			add |= believed(p, f);
	}
	// Both directions may do this at once. Each compares with the flags that its own
	// atomic operation has replaced, so a change is counted once.
	if ((flags & add) != add) {
		before = __sync_fetch_and_or(&s->flags, add);
		settle(p, f, before, before | add);
	}
	if (drop) {
		before = __sync_fetch_and_and(&s->flags, ~drop);
		settle(p, f, before, before & ~drop);
	}
}

static __always_inline void observe(const struct packet *p, const struct found *f, struct flow_record *r)
{
	struct flow_traffic *t = traffic_of(r, f->number, f->dir);
	struct flow_state *s = &r->state;

	if (s->last_seen != plane.clock)
		s->last_seen = plane.clock;
	if (t)
		t->count += (1ULL << COUNT_SHIFT) + p->len;
	if (p->key.proto != IPPROTO_TCP)
		return;
	if (unlikely(p->tcp_flags & TCP_SYN)) {
		if (t && !(p->tcp_flags & TCP_RST))
			observe_syn(p, f, s, t);
	} else if (t && acknowledges(p)) {
		observe_numbers(p, f, s, t);
	}
	observe_tcp(p, f, s);
}

// Whether the packet opens a new connection with the tuple of one that is over (F4).
static __always_inline bool reopens(const struct packet *p, const struct flow_record *r)
{
	return p->key.proto == IPPROTO_TCP && closed_for_both(r->state.flags) && begins(p);
}
