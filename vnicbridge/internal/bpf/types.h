// SPDX-License-Identifier: Apache-2.0

// The types that the programs and Go share, such as the values of the maps. Go's versions
// are generated from these (go generate), so each layout is defined only here.
#pragma once

// Limits. Go refuses a configuration that exceeds one, or leaves what exceeds it to
// userspace.
#define MAX_IFACES 1024		// the index of an iface is below this
#define MAX_TABLES 64		// decision tables: an old and a new one for 32 bridges
#define MAX_STEER 128		// steer entries of a bridge
#define MAX_SLOTS 4096		// slots of a policy; maglevSize in maglev.go is less
#define MAX_WEIGHED 64		// segments that least_conn compares
#define MAX_RANGES 32		// port ranges that a segment opens
#define MAX_GAPS 16		// addresses left out of a pool of aliases
#define MAX_GATEWAYS 8		// gateways that have an alias on a segment
#define MAX_PEERS 16		// segments that a segment may reach
#define MAX_LEADS (1 << 14)	// entries for fragmented datagrams, by a hash

// The key of a flow: a packet's tuple, and the iface at which the packet came in. The
// identifier of an ICMP echo stands for the source port of a request and for the
// destination port of a reply; the other port is 0.
//
// A key of IPv6 has a digest of the addresses in place of src and dst (digest in record.go),
// so that keys of IPv4 are small. The addresses themselves are in the map wide, and are
// compared whenever a flow is found.
#define FAMILY_IPV6 1	// config.IPv6

struct flow_key {
	__be32 src, dst;
	__be16 sport, dport;
	__u16 iface;		// index; 0: the record has no flow
	__u8 proto;		// IPPROTO_ICMP also in IPv6
	__u8 family;		// 0: IPv4
};

// Two IPv6 addresses, adjacent as in a header.
struct address_pair {
	__u64 src[2], dst[2];
};

// The addresses of an IPv6 flow: of packets that the opener sends, and of packets that answer
// them. They fill one cache line.
struct wide_addresses {
	struct address_pair orig, reply;
};

// What is known of a TCP connection, in flow_state.flags: PickedUp, Accepted in tcpstate.go,
// and so on.
enum flow_flag {
	FLOW_PICKED_UP = 1 << 0,	// the connection existed before the flow
	FLOW_ACCEPTED = 1 << 1,		// the other side answered with SYN and ACK
	FLOW_ESTABLISHED = 1 << 2,	// the opener acknowledged the answer
	FLOW_FIN = 1 << 3,		// the opener sent a FIN; 1 << 4: the other side did
	FLOW_RESET = 1 << 5,		// there was a RST, and no later segment contradicts it
	FLOW_ACKED = 1 << 6,		// ack of the opener's traffic is set; 1 << 7: the other's
	FLOW_SUPERSEDED = 1 << 8,	// the flow is over and only keeps its reply key
	FLOW_OVER = 1 << 9,		// both sides accept that RST
	FLOW_COUNTED = 1 << 10,		// the flow is among those of its client (client_counts)
	FLOW_GREETED = 1 << 11,		// the bridge itself has answered the client's SYN
	FLOW_SHIFTED = 1 << 12,		// of a greeted flow: the server has answered too, and has what was held (flow_shift)
	FLOW_ANSWERED = 1 << 13,	// of a greeted flow: the server has answered
};

// The state of a flow. It changes rarely.
struct flow_state {
	__u32 last_seen;	// time of the last packet: see plane_state.clock
	enum flow_flag flags;
	__u32 windows[2];	// by direction: the largest TCP window offered << 8 | its scale
};

// What one direction of a flow has sent. Every packet writes it.
struct flow_traffic {
	__u64 count;		// packets, modulo 2^24, << COUNT_SHIFT | bytes, modulo 2^40
	__u32 ack;		// the last acknowledgment number, in host order
	__u32 next;		// the number that follows the last byte sent, in host order
};

#define COUNT_SHIFT 40

// A flow: one conversation, shared by both directions. A record fills one cache line. Go
// maps the memory of all records; packets find a record by either of its keys.
struct flow_record {
	struct flow_key orig;	// of packets that the opener sends
	struct flow_key reply;	// of packets that answer them
	struct flow_state state;
	struct flow_traffic sent;	// by the opener; the other direction is in the map answers
};

// How the numbers of a connection differ between its ends: packet.Shift. The bridge has answered
// the client's SYN itself, and the server has begun with numbers of its own.
struct flow_shift {
	__u32 seq;		// what is added to the server's sequence numbers towards the client
	__u32 time;		// the same for its timestamps
	__s8 to_client, to_server;	// by how many bits windows are shifted to the left
	__u16 zero;
	__u32 padding;		// for the programs; Go keeps the number of a steer rule here
};

// What the bridge holds of a greeted client whose server it does not know yet: Held in held.go.
struct held {
	struct flow_key key;	// of the client's packets
	__u32 from, to;		// the sequence numbers of the bytes that are held; `to` follows the last one
	__u32 ack;		// what the client acknowledges
	__u32 zero;
};

#define HELD_SLOTS (1 << 15)	// HeldSlots in held.go

// A key points to a value: the number of a record, with REVERSE set if the key is the
// record's reply key.
#define REVERSE (1U << 31)
#define NOT_FOUND 0xffffffffU

#define SLOTS 7

#define QUARANTINE (1 << 17)	// twice maxQuarantined in quarantine.go

// A bucket of the hash table of keys (table.h). It fills one cache line.
struct bucket {
	__u32 lock;
	__u32 displaced;	// keys that belong here but are in a later bucket
	__u64 slot[SLOTS];	// a part of the hash << 32 | the value; 0: free
};

// In place of the flags of bpf_redirect: a frame that leaves by the outer end of a veth pair
// comes in at the inner end at once (bpf_redirect_peer), instead of by a queue.
#define TO_PEER (1U << 31)

// A place at which frames come and go: a NIC's or a VNIC's.
struct iface {
	__u32 ifindex;		// of its device; 0: no device
	__u32 redirect;		// flags of bpf_redirect, or TO_PEER
	__u32 slow;		// ifindex of the slow path; 0: userspace reads the device itself
	__u32 mtu;		// of the link, in bytes; 0: no limit
	__be32 address;		// of a NIC: the pseudo address; of a VNIC: the segment's
	__be32 network, mask;	// of a NIC: the link's network
	__be32 gateway;		// of a NIC; 0: none; behind a device, the segment's server
	__u8 mac[6];
	__u8 gateway_mac[6];	// 0: not resolved
	__u32 nic;		// 1: a NIC, 0: a VNIC
	__u32 paced;		// of a VNIC whose segment has a limit of rates: the number of its limits; else 0
	__u32 linked;		// 1: frames leave by it with its MAC, to a next hop: a NIC, or a device of a segment

	// Of an iface for IPv6, in place of the four addresses above.
	__u64 address6[2], network6[2], mask6[2], gateway6[2];
};

// Why a packet was dropped: DropReason in drop.go.
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
	DROP_DENIED,
	DROP_LIMIT,
	DROP_STANDBY,
	DROP_REASONS,

	// Not a drop: the packet goes to userspace, which decides.
	SLOW = 64,
};

// The traffic of one iface, on one CPU.
struct counters {
	__u64 packets_in, bytes_in;
	__u64 packets_out, bytes_out;
	__u64 new_flows;
	__u64 drops[DROP_REASONS];
};

// Current values of an iface. The programs and Go change them.
struct gauges {
	__s64 flows;		// that begin or end here
	__s64 load;		// those that are not closing, for least_conn
	__u32 turn;		// of a NIC: how many flows round_robin has assigned
	__u32 limit;		// of a VNIC whose segment has limits: the number of these; 0: none
	__u32 twin;		// the device's iface for the other family; 0: there is none
	__u32 standby;		// 1 while another machine has the pseudo address of the NIC, or the aliases behind the device
};

// The limits of a segment, and how much of them is used up: Limits in counters.go. Their number
// is that of the VNIC's iface for IPv4.
struct limit {
	__u64 cost;		// what a new flow takes of the rate of new flows, in ns; 0: no limit
	__u64 spent;		// the time up to which that rate is used up, in ns: plane_state.clock in ns
	__u32 flows;		// the most flows at once; 0: no limit
	__u32 full;		// until when none of the flows can make room: see plane_state.clock
	__u32 per_client;	// the most flows of one client at once; 0: no limit
	__u32 zero;
	__u64 refused;		// packets beyond a limit: that would have begun a flow, or waited too long

	// The limit of rates: pace.h.
	__u64 byte_cost;	// what a byte takes of the rate, in ns << BYTE_COST_SHIFT
	__s64 burst;		// how much of the rate may be taken at once after a pause, in ns
	__s64 queue;		// for how long packets beyond the rate wait, at most, in ns
	__s64 used[2];		// the time of the plane's clock up to which the rate is used up, in ns, by way
};

// How many flows clients have at segments with such a limit: a count-min sketch (Cormode and
// Muthukrishnan, 2005). A client has one count in each row, by a hash. The smallest of them is
// its own, or more if other clients share all four.
#define CLIENT_ROWS 4
#define CLIENT_COUNTS (1 << 16)

struct client_counts {
	__s32 row[CLIENT_ROWS];
};

// The MAC of a host on a NIC's link.
struct neighbour_key {
	__be32 address;
	__u32 iface;
};

struct neighbour {
	__u8 mac[6];
	__u16 zero;
	__u32 used;		// when a frame was last sent there: see plane_state.clock
};

// The same for IPv6.
struct neighbour_key6 {
	__u64 address[2];
	__u32 iface;
	__u32 zero;
};

// A rate limit on what goes to userspace (spend).
struct budget {
	__u64 spent;		// the time, of bpf_ktime_get_ns, up to which it is used up
};

// Kinds of messages of ARP, NDP and MLD, each with a rate limit of its own: MessageKind in
// messagekind.go. ARP has only the first four.
enum message_kind {
	MESSAGE_ANYBODY,	// about the pseudo address, from a host to which no frames go
	MESSAGE_ANSWER,		// a reply, or an advertisement, to the pseudo address
	MESSAGE_NEIGHBOUR,	// from a host to which frames go
	MESSAGE_GATEWAY,	// from the gateway
	MESSAGE_LINK_LOCAL,	// about a link-local address, which may be the bridge's
	MESSAGE_MLD,		// a query
	MESSAGE_IGNORED,	// about routers, or truncated: userspace only counts it
	MESSAGE_KINDS,
};

struct tally {
	__u64 packets, bytes;
};

// The state of the filter of a NIC's packet socket (letin.c).
struct let_in_state {
	struct budget odd;	// packets that only userspace can carry
	struct budget strays;	// of these, fragments whose first one has not come
	struct budget arp[MESSAGE_KINDS];
	struct budget ndp[MESSAGE_KINDS];	// and MLD
	struct tally overload;	// dropped beyond these rate limits
	struct tally others;	// dropped ARP and NDP that do not concern us
};

// How a policy finds the slot for a new flow: slotIndex in balancer.go.
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

// A steer entry: a steer rule with one protocol and one port range. A rule with several
// becomes several entries.
struct steer {
	__u32 clients;		// the set of prefixes that contains the client; 0: any client
	struct port_range ports;
	__u8 by_port;		// 0: ignore ports
	__u8 proto;		// 0: any
	__u16 segment;		// index of the VNIC's iface; 0: not available
	__u16 named;		// 1: the host name that the client asks for decides, in userspace
};

struct decision_table {
	struct steer steer[MAX_STEER];
	__u32 weights[MAX_WEIGHED];
	__u16 slots[MAX_SLOTS];
};

// The rules for new flows that come in at a NIC: BridgeRules in ruleset.go.
struct bridge_rules {
	__u32 live;		// 0: userspace decides
	__u32 table;		// the index of the decision table
	__u16 steers, slots;	// how many the table has
	enum slot_index index;
	__u32 silent;		// 1: senders of refused flows get no answer
	__be32 gateway;		// 0: none
};

// A segment that a segment may reach: ReachRule in ruleset.go.
struct peer {
	__be32 here;		// the alias of the other segment on this one
	__be32 there;		// the alias of this segment on the other one
	__u32 to;		// the index of the other VNIC's iface
};

enum egress { EGRESS_OFF, EGRESS_GATEWAY, EGRESS_ANY };

// The rules for new flows to and from a segment: SegmentRules in ruleset.go.
struct segment_rules {
	__u32 live;		// 0: userspace decides
	__be32 address;		// the segment's own
	__u32 preserve;		// 1: the segment sees clients under their own addresses
	enum egress egress;
	// The aliases: consecutive addresses from the first one on, in host order, without
	// the gaps.
	__u32 first_alias, aliases;
	__u32 gaps, gap[MAX_GAPS];
	__u32 ranges;
	struct port_range range[MAX_RANGES];
	// Indexes of NICs. The first aliases stand for their gateways, in this order.
	__u32 gateways, gateway[MAX_GATEWAYS];
	__u32 peers;
	struct peer peer[MAX_PEERS];
};

// A segment that a segment may reach, in IPv6: struct peer.
struct wide_peer {
	__u64 here[2], there[2];
	__u32 to;
	__u32 zero;
};

// The rules for new IPv6 flows to and from a segment: struct segment_rules.
struct wide_segment_rules {
	__u32 live;		// 0: userspace decides
	__u32 preserve;
	__u64 address[2];
	__u64 network;		// the first half of derived aliases
	enum egress egress;
	__u32 ranges;
	struct port_range range[MAX_RANGES];
	__u32 gateways, gateway[MAX_GATEWAYS];
	__u64 alias[MAX_GATEWAYS][2];	// of the gateways
	__u32 peers, zero;
	struct wide_peer peer[MAX_PEERS];
};

// The set of the networks that a NIC or a segment denies is this with the index of its iface. Other sets
// have lower numbers.
#define DENIED_AT (1U << 31)

// A prefix in a numbered set, as a key of the LPM trie.
struct prefix_key {
	__u32 length;		// in bits: 32 for the set, and the length of the prefix
	__u32 set;
	__be32 address;
};

struct wide_prefix_key {
	__u32 length;		// in bits: 32 for the set, and the length of the prefix
	__u32 set;
	__u64 address[2];
};

enum mode {
	MODE_ASLEEP,	// all packets are left to the host
	MODE_SLOW,	// all our packets go to userspace
	MODE_FAST,	// the programs carry packets
};

// The state of the plane. Every packet reads the first cache line, which hardly changes.
// New flows write the second one.
struct plane_state {
	enum mode mode;
	__u32 half;		// the half of the rules that is in force, by its lowest bit
	__u32 impossible;	// the set of sources that no host outside can have (S1)
	__u32 clock;		// the plane's coarse clock, in units of 2^26 ns (67 ms)
	__u32 near_mask;	// the number of near buckets, a power of two, less one
	__u32 far_mask;		// the number of far buckets, a power of two, less one
	__u64 heartbeat;	// when userspace was last alive: CLOCK_MONOTONIC, in ns
	__u64 hash_key[2];	// of siphash.h
	__u64 table_key[2];	// of the hash that places keys in buckets
	__s64 flows;		// living flows in the table
	__s64 limit;		// of flows
	__u32 capacity;		// the number of records
	__u32 fresh;		// how many records, from the first on, have ever been used
	__s32 refusals;		// how many may go to userspace until Go's next tick
	__u32 quarantine;	// the latest time in the map quarantine, like clock
	struct budget odd;	// packets that only userspace can carry
	struct budget strays;	// of these, fragments whose first one has not come
	__u64 began;		// bpf_ktime_get_ns when the plane's clock was 0
	__s64 syns;		// the time of the plane's clock up to which the rate of SYNs is used up (may_keep)
};
