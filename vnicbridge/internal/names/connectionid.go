package names

// IsLongHeader tells whether a QUIC packet has a long header, as those of a handshake have
// (RFC 8999 §5).
func IsLongHeader(datagram []byte) bool { return len(datagram) > 0 && datagram[0]&longHeader != 0 }

// ConnectionIDs returns the connection ids of a packet with a long header, of any version of QUIC
// (RFC 8999 §5.1): that of its receiver, and that of its sender.
func ConnectionIDs(datagram []byte) (receiver, sender []byte, ok bool) {
	f := fields{rest: datagram}
	f.take(5) // the first byte and the version
	receiver = f.take(f.number(1))
	sender = f.take(f.number(1))
	return receiver, sender, IsLongHeader(datagram) && !f.cut
}
