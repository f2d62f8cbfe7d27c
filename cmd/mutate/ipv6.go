package main

// ipv6 are the defects of the rows about flows that only IPv6 can have.
var ipv6 = []mutation{
	{
		row: "F11", defect: "ICMP's number over IPv6 is taken for ICMPv6", file: `vnicbridge/internal/packet/ipv6.go`,
		old: `		return nextReserved`, new: `		return config.ICMP`, tests: "vnicbridge.TestIPv6Refusals",
	}, {
		row: "F2", defect: "the hop limit is counted down", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `	copy(p.IP[8:24], to.Src[:])`, new: "	p.IP[7]--\n	copy(p.IP[8:24], to.Src[:])",
		tests: "vnicbridge.TestIPv6BothWays",
	}, {
		row: "F2", defect: "the flow label is cleared", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `	copy(p.IP[8:24], to.Src[:])`, new: "	p.IP[3] = 0\n	copy(p.IP[8:24], to.Src[:])",
		tests: "vnicbridge.TestIPv6BothWays",
	}, {
		row: "F3", defect: "an unfinished checksum of IPv6 is adjusted by 4 bytes of each address only", file: `vnicbridge/internal/packet/rewrite.go`,
		old:   `diff = checksumDiff(p.Src[:], to.Src[:]) + checksumDiff(p.Dst[:], to.Dst[:])`,
		new:   `diff = checksumDiff(p.Src.V4(), to.Src.V4()) + checksumDiff(p.Dst.V4(), to.Dst.V4())`,
		tests: "vnicbridge.TestIPv6UnfinishedChecksums",
	}, {
		row: "F6", defect: "the checksum of an ICMPv6 error does not follow its addresses", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `	if p.ICMPError {`, new: `	if false {`,
		tests: "vnicbridge.TestIPv6ErrorsInwards vnicbridge.TestIPv6ErrorsOutwards vnicbridge.TestIPv6ErrorsAboutNothing",
	}, {
		row: "F6", defect: "a quoted ICMPv6 checksum does not follow the quoted addresses", file: `vnicbridge/internal/packet/quote.go`,
		old: `		if !quoted.isIPv6() {`, new: `		if true {`,
		tests: "vnicbridge.TestIPv6ErrorsInwards vnicbridge.TestIPv6ErrorsOutwards vnicbridge.TestIPv6ErrorsAboutNothing",
	}, {
		row: "F6", defect: "the checksum of an ICMPv6 error is checked without its addresses", file: `vnicbridge/internal/packet/checksum.go`,
		old: "	sum := uint32(Fold(sumOf(p.L4)))\n	if p.isIPv6() {", new: "	sum := uint32(Fold(sumOf(p.L4)))\n	if false {",
		tests: "vnicbridge.TestIPv6ErrorsInwards vnicbridge.TestIPv6ErrorsOutwards vnicbridge.TestIPv6ErrorsAboutNothing",
	}, {
		row: "F6", defect: "Packet Too Big is no error about a flow", file: `vnicbridge/internal/packet/packet.go`,
		old: `		return kind >= ICMPv6Unreachable && kind <= ICMPv6ParameterProblem`, new: `		return kind >= ICMPv6Unreachable && kind <= ICMPv6ParameterProblem && kind != ICMPv6PacketTooBig`,
		tests: "vnicbridge.TestIPv6ErrorsInwards vnicbridge.TestIPv6ErrorsOutwards vnicbridge.TestIPv6ErrorsAboutNothing",
	}, {
		row: "F7", defect: "an atomic fragment counts as a part of a datagram", file: `vnicbridge/internal/packet/ipv6.go`,
		old: `	p.Fragment = bits&(fragmentOffset|moreFragments) != 0`, new: `	p.Fragment = true`,
		tests: "vnicbridge.TestIPv6Fragments vnicbridge.TestIPv6FragmentsWithOptions vnicbridge.TestIPv6OddFragments vnicbridge.TestIPv6FragmentTime",
	}, {
		row: "F7", defect: "only 16 bits of an identification of IPv6 are kept", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `		return binary.BigEndian.Uint32(p.fragmentHeader()[4:])`, new: `		return uint32(binary.BigEndian.Uint16(p.fragmentHeader()[4:]))`,
		tests: "vnicbridge.TestIPv6Fragments vnicbridge.TestIPv6FragmentsWithOptions vnicbridge.TestIPv6OddFragments vnicbridge.TestIPv6FragmentTime",
	}, {
		row: "F7", defect: "a later fragment of IPv6 must name a protocol", file: `vnicbridge/internal/packet/packet.go`,
		old: `	return p.Proto.Carried() || p.Later && p.isIPv6() && p.Proto == headerOptions`, new: `	return p.Proto.Carried()`,
		tests: "vnicbridge.TestIPv6Fragments vnicbridge.TestIPv6FragmentsWithOptions vnicbridge.TestIPv6OddFragments vnicbridge.TestIPv6FragmentTime",
	}, {
		row: "F7", defect: "fragments of IPv6 are forgotten as early as IPv4's", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `		return IPv6FragmentTime`, new: `		return FragmentTime`,
		tests: "vnicbridge.TestIPv6Fragments vnicbridge.TestIPv6FragmentsWithOptions vnicbridge.TestIPv6OddFragments vnicbridge.TestIPv6FragmentTime",
	}, {
		row: "F8", defect: "Packet Too Big quotes a whole packet", file: `vnicbridge/internal/packet/quote.go`,
		old: `ipv6MinMTU-IPv6HeaderLen-ICMPHeaderLen`, new: `65000`,
		tests: "vnicbridge.TestIPv6PacketTooBig",
	}, {
		row: "F8", defect: "Packet Too Big tells no MTU", file: `vnicbridge/internal/userspace/reject.go`,
		old: `code: packet.ICMPFragmentationNeeded, value: uint32(mtu)}`, new: `code: packet.ICMPFragmentationNeeded}`,
		tests: "vnicbridge.TestIPv6PacketTooBig",
	}, {
		row: "F10+", defect: "a closed port of IPv6 does not end a flow", file: `vnicbridge/internal/packet/packet.go`,
		old: `		return p.L4[0] == ICMPv6Unreachable && p.L4[1] == ICMPv6PortUnreachable`, new: `		return false`,
		tests: "vnicbridge.TestIPv6ClosedPortEndsAFlow",
	}, {
		row: "F11", defect: "unknown headers of IPv6 are answered", file: `vnicbridge/internal/userspace/reject.go`,
		old: `	return routes || a.In.Family == config.IPv4`, new: `	return routes || !routes`,
		tests: "vnicbridge.TestIPv6Refusals",
	}, {
		row: "S1", defect: "an IPv4 address that is mapped into IPv6 is let in", file: `vnicbridge/internal/packet/ipv6.go`,
		old: `	if !p.Src.IsIPv6() {`, new: `	if false {`,
		tests: "vnicbridge.TestIPv6Refusals",
	}, {
		row: "F11", defect: "a chain of headers has no bound", file: `vnicbridge/internal/packet/ipv6.go`,
		old: ` || n == maxHeaders || at+length-IPv6HeaderLen > maxChainLen {`, new: ` {`,
		tests: "vnicbridge.TestIPv6Refusals",
	}, {
		row: "F13", defect: "hop-by-hop options are no header", file: `vnicbridge/internal/packet/ipv6.go`,
		old: `next == headerHopByHop && n == 0, `, new: ``,
		tests: "vnicbridge.TestIPv6BothWays vnicbridge.TestRoutingHeaders",
	}, {
		row: "F13", defect: "routing headers are walked over", file: `vnicbridge/internal/packet/ipv6.go`,
		old: `next == headerOptions, `, new: `next == headerOptions, next == headerRouting, `,
		tests: "vnicbridge.TestIPv6BothWays vnicbridge.TestRoutingHeaders",
	}, {
		row: "F13", defect: "a Parameter Problem points to the wrong byte", file: `vnicbridge/internal/packet/ipv6.go`,
		old: `uint32(len(p.IP)-len(p.L4)) + 2`, new: `uint32(len(p.IP) - len(p.L4))`,
		tests: "vnicbridge.TestIPv6BothWays vnicbridge.TestRoutingHeaders",
	}, {
		row: "F13", defect: "a routing header at its end is answered", file: `vnicbridge/internal/packet/ipv6.go`,
		old: `kind == 0 || segmentsLeft > 0`, new: `kind|segmentsLeft >= 0`,
		tests: "vnicbridge.TestIPv6BothWays vnicbridge.TestRoutingHeaders",
	}, {
		row: "F3", defect: "the sum over a whole packet is not kept right", file: "vnicbridge/internal/bpf/packet6.h",
		old:   `	bpf_csum_update(skb, diff);` + "\n",
		tests: "integration.TestSummedPackets",
	}, {
		row: "F14", defect: "a segment without the family is a candidate", file: "vnicbridge/internal/rules/compile.go",
		old: `		vnic := device.Of(f)
`, new: `		vnic := device.Of(f)
		if vnic == nil {
			vnic = device
		}
`,
	}, {
		row: "S1", defect: "impossible sources of IPv6 enter", file: "vnicbridge/internal/bpf/admit6.h",
		old: `	if (impossible6(a->orig.src))`, new: `	if (0)`,
		tests: "integration.TestForgedFramesIPv6",
	}, {
		row: "S2", defect: "any IPv6 source leaves a segment", file: "vnicbridge/internal/bpf/bridge.c",
		old: `own->nic ? a->dst : a->src, own->address6)`, new: `own->nic ? a->dst : own->address6, own->address6)`,
		tests: "vnicbridge.TestWhatLeavesASegmentInIPv6",
	},
}
