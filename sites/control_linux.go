package sites

import (
	"encoding/binary"
	"net/netip"
	"os"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// putPacketInfo writes the control message with the address that a datagram was sent to. It
// returns the message's length in bytes; 0 if there is no room.
func putPacketInfo(oob []byte, to netip.Addr) int {
	if to.Is6() {
		message := (&ipv6.ControlMessage{Src: to.AsSlice()}).Marshal()
		if len(message) > len(oob) {
			return 0
		}
		return copy(oob, message)
	}
	// ipv4 writes the address into the field for sending. For a received datagram the
	// kernel uses another field.
	message := (&ipv4.ControlMessage{Src: to.AsSlice()}).Marshal()
	if len(message) > len(oob) {
		return 0
	}
	info := message[unix.CmsgLen(0):]
	copy(info[infoAddr:], info[infoSpecDst:infoAddr])
	return copy(oob, message)
}

// struct in_pktinfo: the interface's index, the local address, the address in the
// header; of 4 bytes each.
const (
	infoSpecDst = 4
	infoAddr    = 8
)

// takeControl removes from control messages what the kernel must not get: the source, which
// is not an address of this host, and the length of the datagrams to segment into. Without
// such a length, segment is beyond any datagram's length.
func takeControl(oob []byte) (source netip.Addr, segment int, rest []byte, err error) {
	segment = 1 << 16
	for len(oob) > 0 {
		header, body, more, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return source, 0, nil, os.NewSyscallError("sendmsg", err)
		}
		switch [2]int32{header.Level, header.Type} {
		case [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO}:
			source = netip.AddrFrom4([4]byte(body[infoSpecDst:]))
		case [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}: // struct in6_pktinfo: the address, the interface's index
			source = netip.AddrFrom16([16]byte(body)).Unmap()
		case [2]int32{unix.IPPROTO_UDP, unix.UDP_SEGMENT}:
			segment = int(binary.NativeEndian.Uint16(body))
		default:
			rest = append(rest, oob[:len(oob)-len(more)]...)
		}
		oob = more
	}
	return source, segment, rest, nil
}
