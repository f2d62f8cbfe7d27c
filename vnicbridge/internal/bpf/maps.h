// SPDX-License-Identifier: Apache-2.0

// The maps, and the variables that Go sets.
#pragma once

#include "types.h"

// The compiler moves unlikely branches out of the way, so that the path of most packets
// takes few lines of the instruction cache.
#define unlikely(x) __builtin_expect(!!(x), 0)

struct plane_state plane;

// Go sets these before it loads a program, because each iface has its own copy.
volatile const __u32 self;	// the index of the iface
volatile const __u32 self6;	// the index of the device's iface for IPv6; 0: there is none
volatile const __u32 at_egress;	// 1: the program is on what leaves by a TAP
volatile const __u32 needs_heartbeat;	// 1: attached by clsact, which outlives the process

// Go sets the sizes of the first seven maps, all but that of `held` according to max_flows.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_record);
} records SEC(".maps");

// By record: what was sent to the opener. It is not in the record, because the two
// directions of a flow may be on different CPUs: a packet should not write the cache lines
// that packets of the other direction read.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_traffic);
} answers SEC(".maps");

// By record: the addresses of IPv6 flows. One entry if there are none.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wide_addresses);
} wide SEC(".maps");

// By record: the shift of greeted flows. One entry if there are none.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_shift);
} shifts SEC(".maps");

// What greeted clients have sent, by a hash of their key (is_held in admit.h). One entry if there are
// none.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct held);
} held SEC(".maps");

// The numbers of freed records.
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, __u32);
} spare SEC(".maps");

// Until when reply keys must not be used, by a hash of the key, like plane_state.clock.
// Servers may remember flows whose records have been reused (A5). A key without an alias
// tells until when to assume that no alias is free (open_mapped in admit.h).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, QUARANTINE);
	__type(key, __u32);
	__type(value, __u64);	// the values of an array take at least 8 bytes
} quarantine SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_IFACES);
	__type(key, __u32);
	__type(value, struct iface);
} ifaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_IFACES);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_IFACES);
	__type(key, __u32);
	__type(value, struct gauges);
} meters SEC(".maps");

// The limits of segments, by their number (gauges.limit).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_IFACES);
	__type(key, __u32);
	__type(value, struct limit);
} limits SEC(".maps");

// How many flows the clients of segments have that limit them, by a hash (client_counts_at).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CLIENT_COUNTS);
	__type(key, __u32);
	__type(value, struct client_counts);
} clients SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct neighbour_key);
	__type(value, struct neighbour);
} neighbours SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct neighbour_key6);
	__type(value, struct neighbour);
} neighbours6 SEC(".maps");

// The rate limits of ARP, NDP and MLD to userspace, by iface and kind.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_IFACES * MESSAGE_KINDS);
	__type(key, __u32);
	__type(value, struct budget);
} message_budgets SEC(".maps");

// The rules have two halves. Go fills the half that is not in force, and then switches
// (plane_state.half).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * MAX_IFACES);
	__type(key, __u32);
	__type(value, struct bridge_rules);
} bridges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * MAX_IFACES);
	__type(key, __u32);
	__type(value, struct segment_rules);
} segments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * MAX_IFACES);
	__type(key, __u32);
	__type(value, struct wide_segment_rules);
} wide_segments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_TABLES);
	__type(key, __u32);
	__type(value, struct decision_table);
} tables SEC(".maps");

// Numbered sets of prefixes: the clients of steer rules, the sources that no host outside can
// have, and the networks that a NIC or a segment denies (DENIED_AT). Those of IPv6 are in a trie of their
// own, under the same numbers.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct prefix_key);
	__type(value, __u32);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct wide_prefix_key);
	__type(value, __u32);
} wide_prefixes SEC(".maps");
