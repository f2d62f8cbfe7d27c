// SPDX-License-Identifier: Apache-2.0

// IPv6 addresses: two numbers in network byte order.
#pragma once

#include "types.h"

static __always_inline bool is_link_local(const __u64 address[2])
{
	const __u8 *bytes = (const void *)address;

	return bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
}

static __always_inline bool same_address(const __u64 a[2], const __u64 b[2])
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]));
}

static __always_inline void copy_address(__u64 to[2], const __u64 from[2])
{
	to[0] = from[0];
	to[1] = from[1];
}
