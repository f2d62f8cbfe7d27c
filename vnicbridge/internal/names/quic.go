package names

// MaxDatagrams is how many datagrams of a client are read at most.
const MaxDatagrams = 16

// OfDatagrams reads the name from the first datagrams of a UDP flow: the server name of the
// ClientHello that a QUIC client sends in Initial packets (RFC 9000, RFC 9369). The keys of these
// packets follow from a connection id that the packets carry, so anybody can read them (RFC 9001
// §5.2). The datagrams may come in any order. If the reading is More, the caller asks again when
// another datagram has come, with all datagrams since the first. With MaxDatagrams or more, or with
// MaxBytes or more, the reading is never More.
//
// The name is in lower case, without the final dot.
func OfDatagrams(datagrams [][]byte) (name string, reading Reading) {
	tried := make(attempts)
	unread := MaxBytes
	for _, datagram := range datagrams[:min(len(datagrams), MaxDatagrams)] {
		datagram = datagram[:min(len(datagram), unread)]
		unread -= len(datagram)
		if name, reading = tried.read(datagram); reading != More {
			return name, reading
		}
	}
	if len(datagrams) >= MaxDatagrams || unread == 0 {
		return "", None
	}
	return "", More
}

// attempts are a client's attempts to open a connection, by [packet.connection]. There are several
// if a Retry packet has given the client another connection id (RFC 9000 §17.2.5.2), or if the
// client opens several connections from one port.
type attempts map[string]*attempt

type attempt struct {
	keys  *initialKeys
	hello hello
}

// read reads a datagram. Like a server, it ignores a packet that it cannot decrypt (RFC 9000
// §12.2). If the first datagram does not begin with an Initial or 0-RTT packet, the reading is
// None, because the client is not opening a connection of a known version.
func (a attempts) read(datagram []byte) (name string, reading Reading) {
	packets := packetsOf(datagram)
	if len(packets) == 0 {
		if len(a) == 0 {
			return "", None
		}
		return "", More
	}
	current := a[packets[0].connection]
	if current == nil {
		keys, err := packets[0].deriveKeys()
		if err != nil {
			return "", None
		}
		current = &attempt{keys: keys}
		a[packets[0].connection] = current
	}
	for _, p := range packets {
		frames, ok := current.keys.open(p)
		if !ok {
			continue
		}
		if !current.hello.addFrames(frames) {
			return "", None
		}
		if name, reading = current.hello.read(); reading != More {
			return name, reading
		}
	}
	return "", More
}
