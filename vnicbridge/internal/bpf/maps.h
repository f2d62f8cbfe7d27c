// SPDX-License-Identifier: Apache-2.0

// The maps, and the variables that Go sets.
#pragma once

#include "types.h"

// What is rarely so is laid out of the way: the path of most packets stays in few
// lines of the instruction cache.
#define unlikely(x) __builtin_expect(!!(x), 0)

struct plane_state plane;

// Set before a program is loaded, for one iface.
volatile const __u32 self;
volatile const __u32 needs_heartbeat;

// The sizes of the first four follow max_flows.
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

// What is sent in answer to each record's opener, which lies apart from the record:
// the packets of either direction write what those of the other one, who may be on
// another CPU, read as little as can be.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_traffic);
} answers SEC(".maps");

// The numbers of records that were used and are free again.
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, __u32);
} spare SEC(".maps");

// Until when reply keys are not to be had, by their hash: servers may remember flows
// whose records others have got since (A5). And until when no alias is to be had, by
// that of a key without one.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, QUARANTINE);
	__type(key, __u32);
	__type(value, __u64);	// an array has no smaller ones
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

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct neighbour_key);
	__type(value, struct neighbour);
} neighbours SEC(".maps");

// What ARP of each kind may go to userspace, by iface and kind.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_IFACES * ARP_KINDS);
	__type(key, __u32);
	__type(value, struct budget);
} arp_budgets SEC(".maps");

// The rules, in two halves: Go fills the one that is not in force.
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
	__uint(max_entries, MAX_TABLES);
	__type(key, __u32);
	__type(value, struct decision_table);
} tables SEC(".maps");

// Sets of prefixes: the clients of steer rules, the sources that cannot be.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct prefix_key);
	__type(value, __u32);
} prefixes SEC(".maps");
