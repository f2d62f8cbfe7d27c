package packet

// Types of ICMPv6 by which neighbours talk.
const (
	MLDQuery    = 130 // RFC 3810 §5.1
	MLDv1Report = 131 // RFC 2710 §3.1
	MLDv1Done   = 132
	MLDv2Report = 143 // RFC 3810 §5.2

	firstNDP = 133 // router solicitation (RFC 4861 §4)
	lastNDP  = 137 // redirect
)

// IsNeighbourDiscovery tells whether the frame is a message of NDP, or one of MLD, which is
// behind hop-by-hop options with a router alert (RFC 3810 §5). It checks nothing else, and
// takes any bytes. A message that is hidden behind other headers is none.
func (f *Frame) IsNeighbourDiscovery() bool {
	if len(f.Data) < VNetHeaderLen+EthHeaderLen+IPv6HeaderLen || f.EtherType() != EtherIPv6 {
		return false
	}
	ip := f.Eth()[EthHeaderLen:]
	if ip[0]>>4 != 6 {
		return false
	}
	message := ip[IPv6HeaderLen:]
	switch ip[6] {
	case nextICMPv6:
		return len(message) > 0 && message[0] >= firstNDP && message[0] <= lastNDP
	case headerHopByHop:
		return isMLD(message)
	}
	return false
}

// isMLD tells whether a message of MLD is behind the hop-by-hop options with which b begins.
func isMLD(b []byte) bool {
	length := headerLen(headerHopByHop, b)
	if length >= len(b) || b[0] != nextICMPv6 {
		return false
	}
	kind := b[length]
	return kind >= MLDQuery && kind <= MLDv1Done || kind == MLDv2Report
}
