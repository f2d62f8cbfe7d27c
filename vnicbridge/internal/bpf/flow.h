// SPDX-License-Identifier: Apache-2.0

// Finding a packet's flow and following it.
#pragma once

#include "packet.h"
#include "table.h"

enum direction { FORWARD, BACKWARD };

// A flow as a packet found it. The tuple is copied: Go may give the record to
// another flow at any time.
struct found {
	struct flow_key answer;	// the key of the other direction
	__u32 number;		// of the record
	__u32 dir;
};

static __always_inline void copy_key(struct flow_key *to, const struct flow_key *from)
{
	__u64 *y = (void *)to;

	y[0] = words(from)[0];
	y[1] = words(from)[1];
}

// The same key, at an address that depends on the words of another one. x86 loads in the
// order of the program; arm64 does so only if the second load needs what the first one
// has loaded. The assembler hides from the compiler that what is added is 0, and the
// verifier knows it.
static __always_inline const struct flow_key *after(const struct flow_key *loaded, const struct flow_key *key)
{
	const __u64 *x = (const void *)loaded;
	__u64 zero = x[0] | x[1];

	asm volatile("%0 &= 0" : "+r"(zero));
	return (const void *)key + zero;
}

// A record is reused in this order: the ports of `orig` are cleared, then those of
// `reply`; then addresses are stored, then ports. A reader that loads the opposite key
// and then finds its own key unchanged knows that both keys belong to one flow.
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

// What was sent in answer to the opener of a record's flow.
static __always_inline struct flow_traffic *answers_of(__u32 number)
{
	return bpf_map_lookup_elem(&answers, &number);
}

#define FLOW_FINS (FLOW_FIN | FLOW_FIN << 1)

static __always_inline bool closing(__u32 flags)
{
	return flags & FLOW_RESET || (flags & FLOW_FINS) == FLOW_FINS;
}

// Whether a SYN may choose a segment anew: closedForBoth in tcpstate.go.
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

// A flow is a load on its ifaces for as long as it is not closing.
static __always_inline void settle(const struct packet *p, const struct found *f, __u32 before, __u32 after)
{
	__s64 n = (__s64)closing(before) - closing(after);

	if (n) {
		add_load(p->key.iface, n);
		add_load(f->answer.iface, n);
	}
}

static __always_inline bool acknowledges(const struct packet *p)
{
	return (p->tcp_flags & (TCP_ACK | TCP_RST)) == TCP_ACK;
}

// What direction of a record has sent.
static __always_inline struct flow_traffic *traffic_of(struct flow_record *r, __u32 number, __u32 dir)
{
	return dir == FORWARD ? &r->sent : answers_of(number);
}

// What a RST, or a FIN, adds to the flags: nothing, if the other side cannot accept
// it, because then anybody may have forged it (F4). It is believed in tcpstate.go.
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
	// It may take a SYN back; or answer one, the first or one on a flow that is closing.
	if (f->dir == FORWARD ? !acked && p->seq == r->sent.next :
	    (!acked || closing(flags)) && p->tcp_flags & TCP_ACK && p->ack == other->next)
		return FLOW_RESET | FLOW_OVER;
	return 0;
}

// How far behind what was sent last a segment is a repeated one, not one of a
// connection that begins anew.
#define REPEATED (1 << 24)

// Takes the numbers of a segment that says where its sender is.
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

// Takes the numbers of a SYN. One on an established flow may be forged.
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

// Follows a TCP connection as a middlebox sees it: nextFlags in tcpstate.go.
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
				drop = ~(FLOW_ACCEPTED | FLOW_ACKED << BACKWARD | FLOW_SUPERSEDED);
		}
	} else {
		// RFC 7857 §2.2: a RST can be forged; traffic after it shows that the
		// connection lives.
		drop = flags & (FLOW_RESET | FLOW_OVER);
		if (flags & FLOW_PICKED_UP && f->dir == BACKWARD)
			add |= FLOW_ACCEPTED;
		if ((flags | add) & FLOW_ACCEPTED && p->tcp_flags & TCP_ACK &&
		    (f->dir == FORWARD || (flags & FLOW_PICKED_UP && flags & FLOW_ACKED)))
			add |= FLOW_ESTABLISHED;
		if (unlikely(p->tcp_flags & TCP_FIN))
			add |= believed(p, f);
	}
	// Both directions do this at once: what an atomic operation found before is
	// what it changed.
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

// Whether the packet is the first of a new connection that uses the tuple of one
// that is over again (F4).
static __always_inline bool reopens(const struct packet *p, const struct flow_record *r)
{
	return p->key.proto == IPPROTO_TCP && closed_for_both(r->state.flags) && begins(p);
}
