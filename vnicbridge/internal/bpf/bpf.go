// Package bpf holds the programs of the kernel data path, and the types that they
// share with Go. Only types.h defines these types; their Go versions are generated.
//
// Begin with bridge.c, which says what happens to a packet. flow.h finds a packet's flow and
// follows its state, admit.h admits a new flow, open.h opens it, decide.h chooses its segment, flowlimit.h keeps the
// segment's limits on flows and pace.h that on its rate, and packet.h reads and rewrites the
// packet. letin.c is the filter of a NIC's packet socket on the userspace data path. It shares
// limit.h, which bounds rates, and arrival6.h, which tells the IPv6 packets that are ours, with
// the NIC's program.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package bpf -output-suffix _objects -target bpfel,bpfeb -cc clang-14 -strip llvm-strip-14 -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" -type flow_key -type bucket -type flow_record -type flow_state -type iface -type port_range -type steer -type peer -type wide_peer -type wide_addresses -type counters -type gauges -type neighbour_key -type neighbour -type decision_table -type bridge_rules -type segment_rules -type prefix_key Bridge bridge.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package bpf -output-suffix _objects -target bpfel,bpfeb -cc clang-14 -strip llvm-strip-14 -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" LetIn letin.c

// License is what each BPF program declares to the kernel: that of the repository. The
// kernel then refuses helpers that are for GPL programs only. None is in use: the last one
// was bpf_ktime_get_ns, before Linux 5.8.
const License = "Apache-2.0"

// The records in the maps, by their names in C (types.h).
type (
	FlowKey      = BridgeFlowKey
	Bucket       = BridgeBucket
	FlowState    = BridgeFlowState
	FlowRecord   = BridgeFlowRecord
	Iface        = BridgeIface
	PortRange    = BridgePortRange
	Counters     = BridgeCounters
	Gauges       = BridgeGauges
	Neighbour    = BridgeNeighbour
	NeighbourKey = BridgeNeighbourKey

	NeighbourKey6    = BridgeNeighbourKey6
	WidePeer         = BridgeWidePeer
	WidePrefixKey    = BridgeWidePrefixKey
	WideSegmentRules = BridgeWideSegmentRules

	Steer         = BridgeSteer
	DecisionTable = BridgeDecisionTable
	BridgeRules   = BridgeBridgeRules
	SegmentRules  = BridgeSegmentRules
	Peer          = BridgePeer
	PrefixKey     = BridgePrefixKey
	Plane         = BridgePlaneState
	Budget        = BridgeBudget
	LetInState    = LetInLetInState
)

// Variables is the map of a program's variables.
const Variables = ".bss"

// Limits that the programs keep, too (types.h).
const (
	MaxIfaces = 1024    // Max of package iface
	DeniedAt  = 1 << 31 // with an iface's index, a set of prefixes: the networks that a NIC or a segment denies
	Reverse   = 1 << 31 // in the value of a flow's key: it is the reply's
	Slots     = 7       // of a bucket
	ToPeer    = 1 << 31 // in place of flags, to an iface: the frame comes in at the inner end of a pair
)

// The modes of a plane (enum mode).
const (
	Asleep = iota // everything is left to the host
	Slow          // everything that is ours goes to userspace
	Fast
)
