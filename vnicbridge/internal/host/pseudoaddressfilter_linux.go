package host

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Offsets in a frame without a VLAN tag.
const (
	atIPv4Dst  = packet.EthHeaderLen + 16
	atIPv6     = packet.EthHeaderLen
	atNext     = atIPv6 + 6
	atHopLimit = atIPv6 + 7
	atIPv6Dst  = atIPv6 + 24
	atPayload  = atIPv6 + 40
)

// Values of IPv6's next header, and types of ICMPv6.
const (
	nextHopByHop = 0
	nextICMPv6   = 58

	mldQuery       = 130
	firstNDP       = 133
	lastNDP        = 137
	ndpHopLimit    = 255 // of a message that no router has forwarded (RFC 4861 §3.1)
	routerAlertLen = 8   // bytes of hop-by-hop options in a query (RFC 3810 §5)
)

// listened are the destinations of NDP and MLD that may be for the bridge, besides the pseudo
// address: all nodes, solicited-node groups and link-local addresses. The bridge's link-local
// address is not known yet when its socket is opened.
var listened = []netip.Prefix{
	netip.MustParsePrefix("ff02::1/128"),
	netip.MustParsePrefix("ff02::1:ff00:0/104"), // RFC 4291 §2.7.1
	netip.MustParsePrefix("fe80::/10"),
}

// PseudoAddressFilter lets in packets to the pseudo addresses, ARP, NDP and queries of MLD,
// also with a priority tag. It leaves out frames to other hosts' MACs and frames that this
// host sends. Nobody counts those, because they do not belong to the bridge.
func PseudoAddressFilter(pseudo PseudoAddresses) ClassicFilter {
	filter := slices.Concat(ClassicFilter{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: unix.PACKET_MULTICAST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, skipPriorityTag)
	if v4 := pseudo[config.IPv4]; v4.IsValid() {
		filter = append(filter, letInIf(etherType(packet.EtherARP))...)
		filter = append(filter, letInIf(etherType(packet.EtherIPv4), inPrefix(atIPv4Dst, netip.PrefixFrom(v4, 32)))...)
	}
	if v6 := pseudo[config.IPv6]; v6.IsValid() {
		filter = append(filter, letInIf(etherType(packet.EtherIPv6), inPrefix(atIPv6Dst, netip.PrefixFrom(v6, 128)))...)
		for _, to := range listened {
			filter = append(filter, letInIf(etherType(packet.EtherIPv6), inPrefix(atIPv6Dst, to), isNDP)...)
			filter = append(filter, letInIf(etherType(packet.EtherIPv6), inPrefix(atIPv6Dst, to), isMLDQuery)...)
		}
	}
	return append(filter, bpf.RetConstant{Val: 0})
}

// skipPriorityTag sets X to the length of the frame's VLAN tag. It leaves out frames with a
// tag of another network.
var skipPriorityTag = ClassicFilter{
	bpf.LoadConstant{Dst: bpf.RegX, Val: 0},
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: packet.EtherVLAN, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packet.EtherQinQ, SkipTrue: 4},
	bpf.LoadConstant{Dst: bpf.RegX, Val: packet.VLANTagLen},
	bpf.LoadAbsolute{Off: 14, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: packet.VLANID, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
}

// condition is what some bytes of a frame must be. If the frame is too short to have them, it
// stays out, whatever follows.
type condition struct {
	off, size uint32 // of a frame without a tag
	mask      uint32 // 0: all bits
	test      bpf.JumpTest
	value     uint32
	before    bool // the bytes are before a tag, which does not move them
}

func etherType(t uint32) []condition { return []condition{{off: 12, size: 2, value: t}} }

// inPrefix tells that the address at an offset is in a prefix.
func inPrefix(off uint32, p netip.Prefix) (conditions []condition) {
	bytes, bits := p.Masked().Addr().AsSlice(), p.Bits()
	for ; bits > 0; bits -= 32 {
		c := condition{off: off, size: 4, value: binary.BigEndian.Uint32(bytes)}
		if bits < 32 {
			c.mask = ^uint32(0) << (32 - bits)
		}
		conditions = append(conditions, c)
		off, bytes = off+4, bytes[4:]
	}
	return conditions
}

var isNDP = []condition{
	{off: atNext, size: 1, value: nextICMPv6},
	{off: atHopLimit, size: 1, value: ndpHopLimit},
	{off: atPayload, size: 1, test: bpf.JumpGreaterOrEqual, value: firstNDP},
	{off: atPayload, size: 1, test: bpf.JumpLessOrEqual, value: lastNDP},
}

var isMLDQuery = []condition{
	{off: atNext, size: 1, value: nextHopByHop},
	{off: atPayload, size: 2, value: nextICMPv6<<8 | (routerAlertLen/8 - 1)},
	{off: atPayload + routerAlertLen, size: 1, value: mldQuery},
}

// letInIf lets in a frame that meets all conditions. What follows it decides on other frames.
func letInIf(conditions ...[]condition) ClassicFilter {
	filter := ClassicFilter{bpf.RetConstant{Val: wholeFrame}}
	for _, c := range slices.Backward(slices.Concat(conditions...)) {
		check := ClassicFilter{bpf.LoadIndirect{Off: c.off, Size: int(c.size)}}
		if c.before {
			check[0] = bpf.LoadAbsolute{Off: c.off, Size: int(c.size)}
		}
		if c.mask != 0 {
			check = append(check, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask})
		}
		check = append(check, bpf.JumpIf{Cond: c.test, Val: c.value, SkipFalse: uint8(len(filter))})
		filter = append(check, filter...)
	}
	return filter
}
