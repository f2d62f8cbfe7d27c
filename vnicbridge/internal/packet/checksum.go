package packet

import "encoding/binary"

// Internet checksums (RFC 1071) changed by increment: HC' = ~(~HC + ~m + m')
// of RFC 1624 §3. A checksum that was right stays right and one that was wrong
// stays wrong, because only the difference is added.

// Fold brings a sum of 16-bit words down to one, in one's complement arithmetic.
func Fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// ValidChecksum tells whether the checksum in what it covers is right: the sum over
// all is then all ones.
func ValidChecksum(data []byte) bool {
	var sum uint32
	for len(data) > 1 {
		sum += uint32(binary.BigEndian.Uint16(data))
		data = data[2:]
	}
	if len(data) > 0 {
		sum += uint32(data[0]) << 8
	}
	return Fold(sum) == 0xffff
}

// checksumDiff is ~m + m' for the bytes that change: what a checksum over them
// is corrected by. Both slices have the same even length.
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

// applyDiffUDP is applyDiff for UDP (RFC 768): zero means that there is none and
// stays; a computed zero is sent as all ones.
func applyDiffUDP(field []byte, diff uint32) {
	if field[0]|field[1] == 0 {
		return
	}
	applyDiff(field, diff)
	if field[0]|field[1] == 0 {
		field[0], field[1] = 0xff, 0xff
	}
}

// applyDiffPartial corrects the sum over the pseudo header that an unfinished
// checksum (CHECKSUM_PARTIAL) holds until a device completes it: the plain sum,
// not its complement.
func applyDiffPartial(field []byte, diff uint32) {
	sum := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, Fold(uint32(sum)+diff))
}
