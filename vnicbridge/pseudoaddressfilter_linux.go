package vnicbridge

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// pseudoAddressFilter lets in ARP, and IPv4 to the pseudo address, also with a priority tag.
// It leaves out what is another host's and what this host sends. Nothing counts that,
// because it is not ours.
func pseudoAddressFilter(pseudo netip.Addr) classicFilter {
	address := binary.BigEndian.Uint32(pseudo.AsSlice())
	const tagged = ethHeaderLen + vlanTagLen
	return classicFilter{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: 15},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 12},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv4, SkipTrue: 9},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherVLAN, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherQinQ, SkipTrue: 10},
		bpf.LoadAbsolute{Off: 14, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: vlanID, SkipTrue: 8},
		bpf.LoadAbsolute{Off: tagged - 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: 5},
		bpf.LoadAbsolute{Off: tagged + 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: address, SkipTrue: 2, SkipFalse: 3},
		bpf.LoadAbsolute{Off: ethHeaderLen + 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: address, SkipTrue: 1},
		bpf.RetConstant{Val: wholeFrame},
		bpf.RetConstant{Val: 0},
	}
}
