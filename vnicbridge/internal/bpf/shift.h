// SPDX-License-Identifier: Apache-2.0

// The numbers of a connection whose SYN the bridge has answered itself: packet/shift.go does the
// same.
#pragma once

#include "flow.h"

// The words of a TCP header, and of the options that senders arrange as RFC 7323 Appendix A
// recommends. Userspace shifts segments with any other options.
#define WORD_SEQ 1
#define WORD_ACK 2
#define WORD_WINDOW 3	// its second half
#define WORD_OPTIONS 5
#define TCP_WORDS 15
#define TIMES bpf_htonl(0x0101080a)	// two NOPs, timestamps
#define TIMES_WORDS 3
#define SACK bpf_htonl(0x01010500)	// two NOPs, selective acknowledgments, without their length
#define SACK_MASK bpf_htonl(0xffffff00)
#define SACK_WORDS 8			// four blocks

static __always_inline __be32 plus(__be32 word, __u32 n)
{
	return bpf_htonl(bpf_ntohl(word) + n);
}

// A window that is shifted to the left: shiftWindow in packet/shift.go.
static __always_inline __u32 shift_window(__u32 window, __s32 bits)
{
	if (!bits || !window)
		return window;
	if (bits > 0) {
		window <<= bits & 15;
		return window < 0xffff ? window : 0xffff;
	}
	window >>= -bits & 15;
	return window ? window : 1;
}

// Shifts the selective acknowledgments that begin at word `at`. Returns false if there is anything
// else, up to the end.
static __always_inline bool shift_sack(__be32 *words, __u32 at, __u32 end, __u32 n)
{
	__u32 blocks = ((bpf_ntohl(words[at]) & 0xff) - 2) / 4;

	if ((words[at] & SACK_MASK) != SACK || blocks > SACK_WORDS || at + 1 + blocks != end)
		return false;
	for (__u32 i = 0; i < SACK_WORDS && at + 1 + i < TCP_WORDS; i++)
		if (i < blocks)
			words[at + 1 + i] = plus(words[at + 1 + i], n);
	return true;
}

// Shifts what a client's segment says of its server. Returns false if there are other options.
static __always_inline bool shift_to_server(__be32 *words, __u32 end, const struct flow_shift *s)
{
	__u32 at = WORD_OPTIONS;

	words[WORD_ACK] = plus(words[WORD_ACK], -s->seq);
	if (end >= WORD_OPTIONS + TIMES_WORDS && words[WORD_OPTIONS] == TIMES) {
		words[WORD_OPTIONS + 2] = plus(words[WORD_OPTIONS + 2], -s->time);
		at = WORD_OPTIONS + TIMES_WORDS;
	}
	if (at == end)
		return true;
	return at == WORD_OPTIONS ? shift_sack(words, WORD_OPTIONS, end, -s->seq) :
				    shift_sack(words, WORD_OPTIONS + TIMES_WORDS, end, -s->seq);
}

// Shifts the numbers of a server's segment. Its acknowledgments are of the client's numbers, which
// are the same at both ends.
static __always_inline bool shift_to_client(__be32 *words, __u32 end, const struct flow_shift *s)
{
	words[WORD_SEQ] = plus(words[WORD_SEQ], s->seq);
	if (end >= WORD_OPTIONS + TIMES_WORDS && words[WORD_OPTIONS] == TIMES) {
		words[WORD_OPTIONS + 1] = plus(words[WORD_OPTIONS + 1], s->time);
		return true;
	}
	return end == WORD_OPTIONS || (words[WORD_OPTIONS] & SACK_MASK) == SACK;
}

// Replaces a word, and returns how that changes a sum.
static __always_inline __u64 put_word(__be32 *word, __be32 to)
{
	__be32 from = *word;

	*word = to;
	return (__u64)(__u32)~from + to;
}

// Shifts a segment in place, if it has timestamps and no other options, as most have. Returns false if
// the segment is unchanged. The way of all others takes twice as long as everything else here.
static __always_inline bool shift_in_place(struct __sk_buff *skb, const struct packet *p, const struct flow_shift *s, __u32 dir,
					   __u32 at, __u32 window)
{
	__be32 *words = (void *)(long)skb->data + (at & 63);	// which it is below: the verifier wants a bound
	__u64 sum = 0;

	if (p->options != 4 * TIMES_WORDS || (void *)(words + WORD_OPTIONS + TIMES_WORDS) > (void *)(long)skb->data_end ||
	    words[WORD_OPTIONS] != TIMES)
		return false;
	if (dir == BACKWARD) {
		sum += put_word(&words[WORD_SEQ], plus(words[WORD_SEQ], s->seq));
		sum += put_word(&words[WORD_OPTIONS + 1], plus(words[WORD_OPTIONS + 1], s->time));
	} else if (p->tcp_flags & TCP_ACK) {
		sum += put_word(&words[WORD_ACK], plus(words[WORD_ACK], -s->seq));
		sum += put_word(&words[WORD_OPTIONS + 2], plus(words[WORD_OPTIONS + 2], -s->time));
	}
	sum += put_word(&words[WORD_WINDOW], (words[WORD_WINDOW] & bpf_htonl(0xffff0000)) | bpf_htonl(window));
	bpf_l4_csum_replace(skb, at + 16, 0, fold(sum), 0);
	return true;
}

// Shifts the numbers of a segment by a copy of its header. Returns false if the segment is unchanged.
static __always_inline bool shift_copy(struct __sk_buff *skb, const struct packet *p, const struct flow_shift *s, __u32 dir, __u32 at,
				       __u32 window)
{
	__be32 words[TCP_WORDS] = {};
	__u32 len = sizeof(struct tcphdr) + p->options;
	__s64 diff;

	if (len > sizeof(words) || bpf_skb_load_bytes(skb, at, words, len))
		return false;
	diff = bpf_csum_diff(words, sizeof(words), NULL, 0, 0);
	if (dir == BACKWARD ? !shift_to_client(words, len / 4, s) : p->tcp_flags & TCP_ACK && !shift_to_server(words, len / 4, s))
		return false;
	words[WORD_WINDOW] = (words[WORD_WINDOW] & bpf_htonl(0xffff0000)) | bpf_htonl(window);
	if (bpf_skb_store_bytes(skb, at, words, len, 0))
		return false;
	bpf_l4_csum_replace(skb, at + 16, 0, bpf_csum_diff(NULL, 0, words, sizeof(words), diff), 0);
	return true;
}

// Shifts the numbers of a segment. `at` is the offset of the TCP header. In p, the numbers are those
// of the server afterwards, by which the state of the flow goes. SLOW: the segment is unchanged, and
// userspace must shift it.
__noinline int shift(struct __sk_buff *skb, struct packet *p, __u32 number, __u32 dir, __u32 at)
{
	struct flow_shift *s = bpf_map_lookup_elem(&shifts, &number);
	__u32 window;

	if (!s || !p || p->options > MAX_OPTIONS || p->tcp_flags & TCP_SYN)
		return SLOW;
	window = shift_window(p->window, dir == FORWARD ? s->to_server : s->to_client);
	if (!shift_in_place(skb, p, s, dir, at, window) && !shift_copy(skb, p, s, dir, at, window))
		return SLOW;
	if (dir == FORWARD) {
		p->ack -= s->seq;
		p->window = window;
	}
	return KEEP;
}
