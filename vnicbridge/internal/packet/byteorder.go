package packet

import "encoding/binary"

// BE32 is an IPv4 address as a number in network byte order, as the programs keep it.
func BE32(a Addr) uint32 { return binary.NativeEndian.Uint32(a.V4()) }

// BE16 is a number in network byte order, as the programs and sockets keep ports.
func BE16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// AddrFromBE32 is the address that [BE32] makes a number of.
func AddrFromBE32(v uint32) (a Addr) {
	const mapped = 0xffff << 32 // RFC 4291 §2.5.5.2
	binary.BigEndian.PutUint64(a[8:], mapped|uint64(Host32(v)))
	return a
}

// Host32 is a number in network byte order in the order of this machine.
func Host32(v uint32) uint32 {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return binary.BigEndian.Uint32(b[:])
}
