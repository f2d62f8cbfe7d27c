package packet

import (
	"encoding/binary"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Internet checksums (RFC 1071) are updated incrementally: HC' = ~(~HC + ~m + m') of
// RFC 1624 §3. A correct checksum stays correct and a wrong one stays wrong, because only
// the difference is added.

// Fold reduces a sum of 16-bit words to 16 bits, in one's complement arithmetic.
func Fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// sumOf returns the sum of 16-bit words. data has less than 128 KiB.
func sumOf(data []byte) (sum uint32) {
	for len(data) > 1 {
		sum += uint32(binary.BigEndian.Uint16(data))
		data = data[2:]
	}
	if len(data) > 0 {
		sum += uint32(data[0]) << 8
	}
	return sum
}

// ValidICMP tells whether the checksum of an ICMP or ICMPv6 message is correct. That of
// ICMPv6 covers a pseudo header too (RFC 8200 §8.1).
func (p *Packet) ValidICMP() bool {
	sum := uint32(Fold(sumOf(p.L4)))
	if p.isIPv6() {
		sum += sumOf(p.IP[8:40]) + uint32(len(p.L4)) + nextICMPv6
	}
	return Fold(sum) == 0xffff
}

// ValidTCP tells whether the checksum of a TCP segment is correct. The segment is whole, and its
// checksum is finished.
func (p *Packet) ValidTCP() bool {
	return Fold(p.pseudoHeaderSum()+uint32(Fold(sumOf(p.L4)))) == 0xffff
}

// pseudoHeaderSum returns the sum over the pseudo header of TCP (RFC 9293 §3.1, RFC 8200 §8.1).
func (p *Packet) pseudoHeaderSum() uint32 {
	addresses := p.IP[12:20]
	if p.isIPv6() {
		addresses = p.IP[8:40]
	}
	return sumOf(addresses) + uint32(len(p.L4)) + uint32(config.TCP)
}

// setTCPChecksum computes the checksum of a TCP segment. An unfinished one is the sum over the
// pseudo header.
func (p *Packet) setTCPChecksum(unfinished bool) {
	field := p.L4[16:18]
	field[0], field[1] = 0, 0
	sum := Fold(p.pseudoHeaderSum())
	if !unfinished {
		sum = ^Fold(uint32(sum) + uint32(Fold(sumOf(p.L4))))
	}
	binary.BigEndian.PutUint16(field, sum)
}

// checksumDiff returns ~m + m' for bytes that change. A checksum that covers the bytes is
// corrected by this difference. Both slices have the same even length.
func checksumDiff(from, to []byte) uint32 {
	var sum uint32
	for i := 0; i+1 < len(from); i += 2 {
		sum += uint32(^binary.BigEndian.Uint16(from[i:])) + uint32(binary.BigEndian.Uint16(to[i:]))
	}
	return sum
}

// applyDiff corrects a finished checksum in place.
func applyDiff(field []byte, diff uint32) {
	hc := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, ^Fold(uint32(^hc)+diff))
}

// applyDiffUDP is applyDiff for UDP (RFC 768). A zero field means that there is no
// checksum, and stays zero. A checksum that becomes zero is sent as all ones.
func applyDiffUDP(field []byte, diff uint32) {
	if field[0]|field[1] == 0 {
		return
	}
	applyDiff(field, diff)
	if field[0]|field[1] == 0 {
		field[0], field[1] = 0xff, 0xff
	}
}

// applyDiffPartial corrects an unfinished checksum (CHECKSUM_PARTIAL in
// include/linux/skbuff.h). Until a device completes it, the field holds the plain sum over
// the pseudo header, not its complement.
func applyDiffPartial(field []byte, diff uint32) {
	sum := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, Fold(uint32(sum)+diff))
}
