package host

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// PseudoAddressFilter lets in ARP, and IPv4 to the pseudo address, also with a priority tag.
// It leaves out frames to other hosts' MACs and frames that this host sends. Nobody counts
// those, because they do not belong to the bridge.
func PseudoAddressFilter(pseudo netip.Addr) ClassicFilter {
	address := binary.BigEndian.Uint32(pseudo.AsSlice())
	const tagged = packet.EthHeaderLen + packet.VLANTagLen
	return ClassicFilter{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: 15},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packet.EtherARP, SkipTrue: 12},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packet.EtherIPv4, SkipTrue: 9},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packet.EtherVLAN, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packet.EtherQinQ, SkipTrue: 10},
		bpf.LoadAbsolute{Off: 14, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: packet.VLANID, SkipTrue: 8},
		bpf.LoadAbsolute{Off: tagged - 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packet.EtherARP, SkipTrue: 5},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packet.EtherIPv4, SkipTrue: 5},
		bpf.LoadAbsolute{Off: tagged + 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: address, SkipTrue: 2, SkipFalse: 3},
		bpf.LoadAbsolute{Off: packet.EthHeaderLen + 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: address, SkipTrue: 1},
		bpf.RetConstant{Val: wholeFrame},
		bpf.RetConstant{Val: 0},
	}
}
