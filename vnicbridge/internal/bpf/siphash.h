// SPDX-License-Identifier: Apache-2.0

// SipHash-2-4 (Aumasson and Bernstein, 2012) of the same messages as in userspace (Key in
// hashkey.go), so that both data paths decide alike.
#pragma once

#include "maps.h"

#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))

static __always_inline void sip_round(__u64 v[4])
{
	v[0] += v[1]; v[1] = ROTATE(v[1], 13); v[1] ^= v[0]; v[0] = ROTATE(v[0], 32);
	v[2] += v[3]; v[3] = ROTATE(v[3], 16); v[3] ^= v[2];
	v[0] += v[3]; v[3] = ROTATE(v[3], 21); v[3] ^= v[0];
	v[2] += v[1]; v[1] = ROTATE(v[1], 17); v[1] ^= v[2]; v[2] = ROTATE(v[2], 32);
}

static __always_inline void sip_word(__u64 v[4], __u64 word)
{
	v[3] ^= word;
	sip_round(v);
	sip_round(v);
	v[0] ^= word;
}

static __always_inline void sip_begin(__u64 v[4])
{
	v[0] = plane.hash_key[0] ^ 0x736f6d6570736575ULL;
	v[1] = plane.hash_key[1] ^ 0x646f72616e646f6dULL;
	v[2] = plane.hash_key[0] ^ 0x6c7967656e657261ULL;
	v[3] = plane.hash_key[1] ^ 0x7465646279746573ULL;
}

// last is the rest of the message, with the message's length in the highest byte.
static __always_inline __u64 sip_end(__u64 v[4], __u64 last)
{
	sip_word(v, last);
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

// The little-endian word of 8 bytes that were loaded in the machine's order.
static __always_inline __u64 little(__u64 v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap64(v);
#else
	return v;
#endif
}

// The second half of an IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2). The first half
// is 0.
static __always_inline __u64 mapped(__be32 address)
{
	union { __u8 bytes[8]; __be32 words[2]; __u64 all; } m = { .bytes = { 0, 0, 0xff, 0xff } };

	m.words[1] = address;
	return little(m.all);
}

__noinline __u64 hash_address(__be32 address)
{
	__u64 v[4];

	sip_begin(v);
	sip_word(v, 0);
	sip_word(v, mapped(address));
	return sip_end(v, 16ULL << 56);
}

__noinline __u64 hash_tuple(const struct flow_key *key)
{
	union { __u8 bytes[8]; __be16 words[4]; __u64 all; } rest = {};
	__u64 v[4];

	if (!key)
		return 0;
	rest.words[0] = key->sport;
	rest.words[1] = key->dport;
	rest.bytes[4] = key->proto;
	sip_begin(v);
	sip_word(v, 0);
	sip_word(v, mapped(key->src));
	sip_word(v, 0);
	sip_word(v, mapped(key->dst));
	return sip_end(v, little(rest.all) | 37ULL << 56);
}

// The hash of an IPv6 address.
__noinline __u64 hash_address6(__u64 first, __u64 second)
{
	__u64 v[4];

	sip_begin(v);
	sip_word(v, little(first));
	sip_word(v, little(second));
	return sip_end(v, 16ULL << 56);
}

// The hash of an IPv6 client's site: SiteOf in packet.go.
static __always_inline __u64 hash_site6(const __u64 address[2])
{
	return hash_address6(address[0], 0);
}

__noinline __u64 hash_tuple6(const struct flow_key *key, const struct address_pair *a)
{
	union { __u8 bytes[8]; __be16 words[4]; __u64 all; } rest = {};
	__u64 v[4];

	if (!key || !a)
		return 0;
	rest.words[0] = key->sport;
	rest.words[1] = key->dport;
	rest.bytes[4] = key->proto;
	sip_begin(v);
	sip_word(v, little(a->src[0]));
	sip_word(v, little(a->src[1]));
	sip_word(v, little(a->dst[0]));
	sip_word(v, little(a->dst[1]));
	return sip_end(v, little(rest.all) | 37ULL << 56);
}
