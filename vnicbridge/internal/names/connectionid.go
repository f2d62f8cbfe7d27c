package names

// IsLongHeader tells whether a QUIC packet has a long header, as those of a handshake have
// (RFC 8999 §5).
func IsLongHeader(datagram []byte) bool { return len(datagram) > 0 && datagram[0]&0x80 != 0 }

// ConnectionIDs returns the connection ids of a packet with a long header, of any version of QUIC
// (RFC 8999 §5.1): that of its receiver, and that of its sender.
func ConnectionIDs(datagram []byte) (receiver, sender []byte, ok bool) {
	const before = 5 // the first byte and the version
	if !IsLongHeader(datagram) || len(datagram) < before {
		return nil, nil, false
	}
	receiver, rest, ok := counted(datagram[before:])
	if !ok {
		return nil, nil, false
	}
	sender, _, ok = counted(rest)
	return receiver, sender, ok
}

// counted returns the bytes behind a byte that tells how many they are, and the rest.
func counted(b []byte) (bytes, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	end := 1 + int(b[0])
	return b[1:end], b[end:], true
}
