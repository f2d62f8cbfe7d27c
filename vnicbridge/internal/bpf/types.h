// SPDX-License-Identifier: Apache-2.0

// What the programs and Go share: the records in the maps. Go's types are
// generated from these (go generate), so that the layout is written once.
#pragma once

#define MAX_IFACES 1024		// devices in use; an iface's index is below it
#define MAX_TABLES 64		// decision tables: of 32 bridges, old and new
#define MAX_STEER 128		// steer entries of a bridge
#define MAX_SLOTS 4096		// slots of a policy: Maglev's table fits
#define MAX_WEIGHED 64		// segments that least_conn compares
#define MAX_RANGES 32		// port ranges that a segment opens
#define MAX_GAPS 16		// addresses left out of a pool of aliases
#define MAX_GATEWAYS 8		// gateways that have an alias on a segment
#define MAX_PEERS 16		// segments that a segment may reach
#define MAX_LEADS (1 << 14)	// datagrams in fragments, by a hash

// A packet's tuple, at the iface by which it came in. For an ICMP echo the
// request's identifier is its source port and the reply's its destination port.
struct flow_key {
	__be32 src, dst;
	__be16 sport, dport;	// in network order
	__u16 iface;		// 0: the key of no flow
	__u8 proto;
	__u8 zero;
};

// What is known of a connection, in flow_state.flags.
enum flow_flag {
	FLOW_PICKED_UP = 1 << 0,	// it was there before we knew of it
	FLOW_ACCEPTED = 1 << 1,		// the other side answered with SYN and ACK
	FLOW_ESTABLISHED = 1 << 2,	// the opener acknowledged
	FLOW_FIN = 1 << 3,		// and 1 << 4: of either direction
	FLOW_RESET = 1 << 5,		// a RST was the last that mattered
	FLOW_ACKED = 1 << 6,		// and 1 << 7: flow_traffic.ack holds a number
	FLOW_SUPERSEDED = 1 << 8,	// a newer flow has its original tuple
	FLOW_OVER = 1 << 9,		// both sides take that RST for the end
};

// What is known of a flow, which rarely changes.
struct flow_state {
	__u32 last_seen;	// of the plane's clock
	enum flow_flag flags;
	__u32 windows[2];	// by direction: the largest that TCP offered, << 8, and its scale
};

// What one direction of a flow has sent. Every packet writes it.
struct flow_traffic {
	__u64 count;		// packets, modulo 2^24, in the upper bits; bytes, modulo 2^40
	__u32 ack;		// what was acknowledged last, in host order
	__u32 next;		// the sequence number that follows what was sent, the same
};

#define COUNT_SHIFT 40

// One conversation, shared by both directions, in one line of the caches. Go finds
// it by its number, as a part of memory; packets find it by either key.
struct flow_record {
	struct flow_key orig;	// as packets of the opener come in
	struct flow_key reply;	// as the answers come in
	struct flow_state state;
	struct flow_traffic sent;	// by the opener
};

// The value of a key: the number of the flow's record, and which key it is.
#define REVERSE (1U << 31)
#define NOT_FOUND 0xffffffffU

#define SLOTS 7

#define QUARANTINE (1 << 17)	// twice maxQuarantined in quarantine.go

// Some of the keys, in one line of the caches.
struct bucket {
	__u32 lock;
	__u32 displaced;	// keys whose first place is here, and that are further on
	__u64 slot[SLOTS];	// a part of the hash, and the value; 0: it is free
};

// A device in its place.
struct iface {
	__u32 ifindex;		// 0: there is none
	__u32 redirect;		// flags of bpf_redirect
	__u32 slow;		// where what needs thought goes; 0: on to the reader of the TAP
	__u32 mtu;		// of packets that leave by it; 0: any
	__be32 address;		// the pseudo address, or the server's
	__be32 network, mask;	// the link of a NIC
	__be32 gateway;		// of a NIC; 0: there is none
	__u8 mac[6];
	__u8 gateway_mac[6];	// 0: not resolved
	__u32 nic;		// 1: a NIC, 0: a VNIC
};

// Why a packet went no further: DropReason in drop.go.
enum drop_reason {
	KEEP,
	DROP_MALFORMED,
	DROP_VLAN,
	DROP_NOT_FOR_US,
	DROP_GROUP,
	DROP_ETHER_TYPE,
	DROP_ARP,
	DROP_SOURCE,
	DROP_FRAGMENT,
	DROP_PROTOCOL,
	DROP_ICMP,
	DROP_NO_FLOW,
	DROP_NO_SEGMENT,
	DROP_PORT,
	DROP_EGRESS,
	DROP_TABLE_FULL,
	DROP_NO_TUPLE,
	DROP_UNRESOLVED,
	DROP_TOO_BIG,
	DROP_SEND,
	DROP_OVERLOAD,
	DROP_REASONS,

	// Not a drop: userspace decides.
	SLOW = 64,
};

// What one device did, on one CPU.
struct counters {
	__u64 packets_in, bytes_in;
	__u64 packets_out, bytes_out;
	__u64 new_flows;
	__u64 drops[DROP_REASONS];
};

// What is true of a device now. Both data paths change it.
struct gauges {
	__s64 flows;
	__s64 load;		// flows that are not closing, for least_conn
	__u32 turn;		// of a NIC's policy, if that goes in turn
	__u32 zero;
};

// The MAC of a host on a NIC's link.
struct neighbour_key {
	__be32 address;
	__u32 iface;
};

struct neighbour {
	__u8 mac[6];
	__u16 zero;
	__u32 used;		// of the plane's clock
};

// How much more may go to userspace until the next interval.
struct budget {
	__u32 interval;		// of 2^24 ns
	__s32 left;
};

// Kinds of ARP frames, each with a budget of its own.
enum arp_kind {
	ARP_ANYBODY,		// about the pseudo address, from a host that we do not send to
	ARP_ANSWER,		// to what we asked
	ARP_NEIGHBOUR,		// from a host that we send to
	ARP_GATEWAY,		// from the gateway
	ARP_KINDS,
};

struct tally {
	__u64 packets, bytes;
};

// What the filter of a NIC's packet socket keeps.
struct let_in_state {
	struct budget odd;	// of packets that no program can carry
	struct budget strays;	// of these, fragments without a first one
	struct budget arp[ARP_KINDS];
	struct tally overload;	// beyond the budgets
	struct tally others_arp;	// neither about the pseudo address nor from a host that we send to
};

// How a policy finds the slot for a new flow: slotIndex in decision.go.
enum slot_index {
	SLOT_FIRST,
	SLOT_IN_TURN,
	SLOT_RANDOM,
	SLOT_CLIENT_HASH,
	SLOT_FLOW_HASH,
	SLOT_LEAST_FLOWS,
};

struct port_range {
	__u16 first, last;	// in host order
	__u8 proto;		// 0: TCP and UDP
	__u8 zero;
};

// A steer rule of one protocol and one range of ports: a rule with several
// becomes several of these.
struct steer {
	__u32 clients;		// the set of prefixes that the client is in; 0: any
	struct port_range ports;
	__u8 by_port;		// ports counts
	__u8 proto;		// 0: any
	__u16 segment;		// the VNIC's iface; 0: not available
	__u16 zero;
};

struct decision_table {
	struct steer steer[MAX_STEER];
	__u32 weights[MAX_WEIGHED];
	__u16 slots[MAX_SLOTS];
};

// What the rules hold for new flows from a NIC.
struct bridge_rules {
	__u32 live;		// 0: userspace decides
	__u32 table;		// the index of its decision table
	__u16 steers, slots;	// how many the table has
	enum slot_index index;
	__u32 silent;		// refused without an answer
	__be32 gateway;
};

struct peer {
	__be32 here;		// the alias of the other segment on this one
	__be32 there;		// and of this one on the other
	__u32 to;		// the other's iface
};

enum egress { EGRESS_OFF, EGRESS_GATEWAY, EGRESS_ANY };

// What the rules hold for new flows to and from a VNIC.
struct segment_rules {
	__u32 live;
	__be32 address;		// the server's
	__u32 preserve;		// clients are seen under their own addresses
	enum egress egress;
	// The aliases: from the first on, in host order, without the gaps.
	__u32 first_alias, aliases;
	__u32 gaps, gap[MAX_GAPS];
	__u32 ranges;
	struct port_range range[MAX_RANGES];
	__u32 gateways, gateway[MAX_GATEWAYS];	// NICs' ifaces, in the order of their aliases
	__u32 peers;
	struct peer peer[MAX_PEERS];
};

// A prefix of a set, for the LPM trie.
struct prefix_key {
	__u32 length;		// of the set's number and the prefix together, in bits
	__u32 set;
	__be32 address;
};

enum mode {
	MODE_ASLEEP,	// everything is left to the host
	MODE_SLOW,	// everything that is ours goes to userspace
	MODE_FAST,
};

// What there is once. Every packet reads the first line, which hardly changes; new
// flows write the second one.
struct plane_state {
	enum mode mode;
	__u32 half;		// which half of the rules is in force
	__u32 impossible;	// the set of sources that cannot be (S1)
	__u32 clock;		// coarse; in units of 2^26 ns
	__u32 near_mask;	// how many near buckets there are, less one: a power of two
	__u32 far_mask;		// and far ones
	__u64 heartbeat;	// of CLOCK_MONOTONIC, ns
	__u64 hash_key[2];
	__u64 table_key[2];	// of the hash that places keys in buckets
	__s64 flows;		// in the table
	__s64 limit;		// of flows
	__u32 capacity;		// records there are
	__u32 fresh;		// records, from the first on, that have been used
	__s32 refusals;		// that may go to userspace until the next tick
	__u32 quarantine;	// until when keys are in it
	struct budget odd;	// of packets that no program can carry
	struct budget strays;	// of these, fragments without a first one
};
