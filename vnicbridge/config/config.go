package config

import "net/netip"

// Config is the whole configuration of a data plane. It is plain data, with the same form as
// apps.vnic in Caddy's JSON.
type Config struct {
	// The isolated networks inside this machine, by name.
	Segments map[string]*Segment `json:"segments,omitempty"`

	// The outside faces of this machine, by name: each joins one NIC, and the
	// pseudo addresses that it answers for, to segments.
	Bridges map[string]*Bridge `json:"bridges,omitempty"`

	// The secret of the hashes that choose segments and aliases: 32 hexadecimal digits.
	// Machines with the same key and the same configuration give a flow the same segment, and
	// a client the same alias. Default: a secret of this machine's own, which Caddy's storage
	// keeps. Whoever knows the key can predict a client's alias and segment.
	Key Key `json:"key,omitzero"`

	// How packets are carried: "auto" (default), "kernel" or "userspace".
	Datapath Datapath `json:"datapath,omitempty"`

	// The most flows that are kept at once, up to 67108864. It bounds memory: a flow takes
	// less than 250 bytes. If the table is full, half-open and idle flows make room, and
	// else new flows are refused. Default: 1048576.
	MaxFlows int `json:"max_flows,omitempty"`
}

// Segment is one isolated network inside the machine, with its own VNIC.
type Segment struct {
	// The VNIC's device name, at most 15 bytes. Default: "vnic-" and the
	// segment's name.
	Interface string `json:"interface,omitempty"`

	// The name of an Ethernet device of this machine behind which the segment's server is, on
	// another machine or in a virtual one: a VXLAN, a VLAN, a TAP of a virtual machine. The
	// device takes the place of a VNIC. It is set up if it is down, and nothing else of it is
	// changed. Default: the segment has a VNIC, and its server is on this machine.
	Device string `json:"device,omitempty"`

	// The VNIC's addresses with the prefix lengths of the segment's networks, as in
	// 192.168.50.1/24 and fd00:50::1/64: at most one of each family, and at least one.
	Addresses []netip.Prefix `json:"addresses,omitempty"`

	// The VNIC's MAC address. Default: a locally administered one that depends
	// on the interface's name only, so that it is the same at every start. With a device, it
	// is the MAC under which the server sees the bridge. Default: one that depends on the
	// segment's name and the secret of the hashes, so that two machines with one secret have
	// the same; and from the aliases, if the bridge is announced by several machines at once.
	MAC MAC `json:"mac,omitzero"`

	// The addresses under which the segment sees remote hosts, of one family. Default:
	// every other host address of the segment's network, at most [MaxAliases]. In an IPv6
	// network of /64 or shorter they are derived from the hosts' addresses instead.
	Aliases AddrRange `json:"aliases,omitzero"`

	// What may enter, as in "tcp/80", "udp/5000-5010" or "any". Default: the ports that
	// listeners of this program have open. ICMP echo requests always enter.
	Ports []PortRange `json:"ports,omitempty"`

	// How the segment sees its clients: "translate" (default, as in the paper:
	// under an alias) or "preserve" (under their own addresses). A segment that
	// preserves them belongs to one bridge.
	ClientIP ClientIP `json:"client_ip,omitempty"`

	// The segment's share of new flows, 1 (default) to [MaxWeight], under every
	// policy but first and round_robin.
	Weight int `json:"weight,omitempty"`

	// Where the segment may open flows to: "off", "gateway" (default; the bridge's
	// gateway under its alias, as in the paper), or "any" (whatever the gateway of
	// its first bridge reaches).
	Egress Egress `json:"egress,omitempty"`

	// The segments to which this one may open flows, each under an alias of its own
	// ([Config.PeerAlias]). No other traffic passes between segments.
	Reach []string `json:"reach,omitempty"`

	// How the segment's health is checked. Default: it is not checked, and the segment
	// gets new flows while it has its VNIC.
	Health *Health `json:"health,omitempty"`

	// What the segment may take of what all segments share. Default: no limits.
	Limits Limits `json:"limits,omitzero"`

	// The name of the network namespace (as `ip netns` knows it) that has the segment's
	// VNIC, its listeners and its other programs. It is made if it does not exist.
	// Default: the host's own, where all segments are one trust domain.
	Netns string `json:"netns,omitempty"`

	// Whether the host's own unbound sockets send through this segment, by a default route
	// of each family in the main table. It is for a host whose NIC has no address. At most one segment can
	// have it, it needs egress any, and it never replaces a default route of the host.
	DefaultRoute bool `json:"default_route,omitempty"`
}

// Bridge joins one NIC to segments, under a pseudo address of each family that it has.
type Bridge struct {
	// The NIC's device name.
	NIC string `json:"nic,omitempty"`

	// The pseudo addresses with the prefix lengths of the NIC's networks, as in
	// 192.168.1.2/24 and 2001:db8:1::2/64: at most one of each family, and at least one.
	Addresses []netip.Prefix `json:"addresses,omitempty"`

	// The routers on the NIC's network, at most one of each family. Without one, only
	// hosts on the link are reachable. That of IPv6 may be a link-local address.
	Gateways []netip.Addr `json:"gateways,omitempty"`

	// The bridge's link-local address on the NIC, of fe80::/10. Neighbours see it as the
	// sender of group memberships (MLD), and no flow has it. Default: one that follows from
	// the NIC's permanent MAC and the bridge's name, so that it is the same at every start.
	LinkLocal netip.Addr `json:"link_local,omitzero"`

	// The networks outside that reach nothing, and that no segment reaches. Bans at run time
	// are in addition to these.
	Deny []netip.Prefix `json:"deny,omitempty"`

	// The steer rules: the first that matches a new flow gives its segment.
	Steer []Rule `json:"steer,omitempty"`

	// How a segment is chosen for the flows that no steer rule matched.
	LBPolicy *Policy `json:"lb_policy,omitempty"`

	// How a flow is answered if no segment is available: "reject" (default; TCP RST or
	// ICMP port unreachable) or "drop".
	OnNoSegment OnNoSegment `json:"on_no_segment,omitempty"`

	// Who decides whether this machine, or another one with the same configuration, has the
	// pseudo addresses. Default: this machine always has them.
	Failover *Failover `json:"failover,omitempty"`

	// How routers learn that this machine, among others, has the pseudo addresses. It excludes
	// Failover. Default: neighbours on the link find them.
	Announce *Announce `json:"announce,omitempty"`

	// Whether a start asks the link for another host that has a pseudo address (duplicate
	// address detection, RFC 5227 and RFC 4862): "on" (default) or "off", for a link where a
	// router answers for every address (proxy ARP).
	DAD DAD `json:"dad,omitempty"`
}

// Rule steers the new flows that match it to a segment. The values of one
// matcher are alternatives; all the matchers that are set must match.
type Rule struct {
	// The segment that matching flows get.
	Segment string `json:"segment,omitempty"`

	// In place of a segment: how one is chosen among several ones. The rule must have names. A
	// switch of the bridge does not change it.
	LBPolicy *Policy `json:"lb_policy,omitempty"`

	// Whether the rule stands for others, and has no segment and no matcher itself. In Caddy it
	// stands for one rule for each segment with HTTP sites: their host names, and the ports on
	// which they listen. For any other program it stands for none, unless that calls
	// [Config.ResolveSites]. A segment that only other bridges name is left out, and so is a name
	// that several segments have on the same port. A bridge has at most one such rule.
	Sites bool `json:"sites,omitempty"`

	// Networks of the client's address.
	Clients []netip.Prefix `json:"clients,omitempty"`

	// Host names that the client asks for: the server name of TLS, or the host of HTTP. Each is
	// a host name, or "*." and a host name, as in "*.example.com", for any one label before it.
	// Case and a dot at the end do not count, and an international name may be in Unicode or in
	// A-labels. Of UDP, they are read from QUIC. All rules of a bridge have at most [MaxNames].
	Names []string `json:"names,omitempty"`

	// Destination ports, as in "tcp/80" or "udp/5000-5010". Default: with names tcp/80,
	// tcp/443 and udp/443, and else all.
	Ports []PortRange `json:"ports,omitempty"`

	// Protocols: "tcp", "udp", "icmp". The last one is ICMP in IPv4, and ICMPv6 in IPv6.
	Protocols []Protocol `json:"protocols,omitempty"`
}

// Policy chooses among segments for a new flow.
type Policy struct {
	// The way to choose: see the [PolicyName] constants.
	Policy PolicyName `json:"policy,omitempty"`

	// The segments to choose from, in order.
	Segments []string `json:"segments,omitempty"`
}

// Datapath names a way of carrying packets.
type Datapath string

// The data paths.
const (
	DatapathAuto      Datapath = "auto"      // the best that this machine can do
	DatapathKernel    Datapath = "kernel"    // eBPF on the devices
	DatapathUserspace Datapath = "userspace" // AF_PACKET and TAP in this process
)

// Egress says where a segment may open flows to.
type Egress string

// The egress modes.
const (
	EgressOff     Egress = "off"     // nowhere
	EgressGateway Egress = "gateway" // the gateway of its bridge, under the gateway's alias
	EgressAny     Egress = "any"     // what the gateway reaches
)

// DAD says whether the pseudo addresses are probed before use.
type DAD string

// The modes of duplicate address detection.
const (
	DADOn  DAD = "on"
	DADOff DAD = "off"
)

// OnNoSegment says how a flow is answered if no segment is available.
type OnNoSegment string

// The answers to a flow without a segment.
const (
	Reject OnNoSegment = "reject" // TCP RST, or ICMP port unreachable
	Drop   OnNoSegment = "drop"   // silence
)

// PolicyName names a load-balancing policy.
type PolicyName string

// The load-balancing policies, with the names of Caddy's reverse_proxy if it has them.
const (
	PolicyFirst              PolicyName = "first"                // the first available segment in order (active/standby)
	PolicyRoundRobin         PolicyName = "round_robin"          // each available segment in turn
	PolicyWeightedRoundRobin PolicyName = "weighted_round_robin" // in turn, as often as its weight
	PolicyRandom             PolicyName = "random"               // at random, by weight
	PolicyLeastConn          PolicyName = "least_conn"           // the one with the fewest open flows for its weight
	PolicyIPHash             PolicyName = "ip_hash"              // by the client's address: a client keeps its segment
	PolicyFlowHash           PolicyName = "flow_hash"            // by the flow's addresses and ports (Maglev)
)

// Policies are all the policies.
var Policies = []PolicyName{
	PolicyFirst, PolicyRoundRobin, PolicyWeightedRoundRobin, PolicyRandom,
	PolicyLeastConn, PolicyIPHash, PolicyFlowHash,
}

// ClientIP says how a segment sees its clients.
type ClientIP string

// The ways to see clients.
const (
	Translate ClientIP = "translate" // under an alias
	Preserve  ClientIP = "preserve"  // under their own addresses
)

// Limits and defaults of a configuration.
const (
	// DefaultMaxFlows bounds the flow table if the configuration does not.
	DefaultMaxFlows = 1 << 20
	// MaxAliases is the most aliases that one segment can have, because each is a permanent
	// neighbour in the kernel's table. A larger pool is cut off.
	MaxAliases = 1 << 16
	// MaxWeight is the largest share of a segment.
	MaxWeight = 256
	// MaxInterfaceName is the longest device name in bytes (IFNAMSIZ-1 in
	// include/uapi/linux/if.h).
	MaxInterfaceName = 15
)
