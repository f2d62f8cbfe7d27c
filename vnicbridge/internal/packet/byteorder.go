package packet

import "encoding/binary"

// BE32 returns an IPv4 address as the programs store it: as a number in network byte order.
func BE32(a Addr) uint32 { return binary.NativeEndian.Uint32(a.V4()) }

// BE16 converts a number between the machine's byte order and network byte order, in which
// programs and sockets store ports. It is its own inverse.
func BE16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// AddrFromBE32 is the inverse of [BE32].
func AddrFromBE32(v uint32) (a Addr) {
	const mapped = 0xffff << 32 // RFC 4291 §2.5.5.2
	binary.BigEndian.PutUint64(a[8:], mapped|uint64(Host32(v)))
	return a
}

// Halves returns an IPv6 address as the programs store it: as two numbers in network byte
// order.
func Halves(a Addr) [2]uint64 {
	return [2]uint64{binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:])}
}

// AddrFromHalves is the inverse of [Halves].
func AddrFromHalves(halves [2]uint64) (a Addr) {
	binary.NativeEndian.PutUint64(a[:8], halves[0])
	binary.NativeEndian.PutUint64(a[8:], halves[1])
	return a
}

// Host32 converts a number from network byte order to the machine's byte order.
func Host32(v uint32) uint32 {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return binary.BigEndian.Uint32(b[:])
}
