package packet

import (
	"encoding/binary"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Lengths of IPv6 (RFC 8200).
const (
	IPv6HeaderLen     = 40
	fragmentHeaderLen = 8    // §4.5
	ipv6MinMTU        = 1280 // §5
)

// Bounds on the extension headers of a packet (F13). A packet beyond them is malformed.
const (
	maxHeaders  = 8
	maxChainLen = 512 // bytes
)

// Values of the next header field that the parser knows (IANA, RFC 8200 §4).
const (
	headerHopByHop = 0
	nextICMPv4     = 1
	headerRouting  = 43
	headerFragment = 44
	nextICMPv6     = 58
	headerOptions  = 60 // destination options
	nextReserved   = 255
)

// Bits of the offset field of the fragment header (RFC 8200 §4.5). The offset is in bytes.
const (
	moreFragments  = 1
	fragmentOffset = 0xfff8
)

// ICMPv6 types (RFC 4443).
const (
	ICMPv6Unreachable      = 1
	ICMPv6PacketTooBig     = 2
	ICMPv6TimeExceeded     = 3
	ICMPv6ParameterProblem = 4
	ICMPv6Echo             = 128
	ICMPv6EchoReply        = 129
)

// Codes of ICMPv6Unreachable.
const (
	ICMPv6AddressUnreachable = 3
	ICMPv6PortUnreachable    = 4
)

// ParseIPv6 parses a frame whose Ethernet type is IPv6. The verdict is Keep if the packet is
// well-formed and its ICMPv6 type, if any, is carried.
func ParseIPv6(f *Frame) (p Packet, verdict DropReason) {
	ip := f.Eth()[EthHeaderLen:]
	if len(ip) < IPv6HeaderLen {
		return p, DropMalformed
	}
	total := IPv6HeaderLen + int(binary.BigEndian.Uint16(ip[4:]))
	if total == IPv6HeaderLen {
		if !f.isSuper(gsoTCPv6) || ip[6] == headerHopByHop {
			return p, DropMalformed // empty, or a jumbogram (RFC 2675)
		}
		total = len(ip) // larger than the field can tell (ipv6_payload_len in include/linux/ipv6.h)
	}
	if total > len(ip) {
		return p, DropMalformed
	}
	if verdict = p.parseIPv6(ip[:total]); verdict != Keep || p.Later {
		return p, verdict
	}
	return p, p.parseTransport()
}

// parseIPv6 is ParseHeader for IPv6. An address of IPv4 that is mapped into IPv6 would be
// taken for the IPv4 address itself, so no packet may have one (S1).
func (p *Packet) parseIPv6(ip []byte) DropReason {
	if len(ip) < IPv6HeaderLen || ip[0]>>4 != 6 {
		return DropMalformed
	}
	*p = Packet{IP: ip}
	p.Src, p.Dst = Addr(ip[8:24]), Addr(ip[24:40])
	if !p.Src.IsIPv6() {
		return DropSource
	}
	if !p.Dst.IsIPv6() {
		return DropNotForUs
	}
	return p.walkHeaders()
}

// walkHeaders sets what the extension headers tell: the protocol, where it begins, and
// whether the packet is a fragment. It walks over hop-by-hop options, if they are the first
// header, over destination options, and over one fragment header. Any other header is
// taken for a protocol, which is not carried.
func (p *Packet) walkHeaders() DropReason {
	next, at := p.IP[6], IPv6HeaderLen
	for n := 0; ; n++ {
		rest := p.IP[at:]
		switch {
		case next == headerHopByHop && n == 0, next == headerOptions, next == headerFragment && p.fragmentAt == 0:
		default:
			p.L4, p.Proto = rest, protocolOf(next)
			return Keep
		}
		length := headerLen(next, rest)
		if length > len(rest) || n == maxHeaders || at+length-IPv6HeaderLen > maxChainLen {
			return DropMalformed
		}
		if next == headerFragment && p.readFragment(at) {
			p.L4, p.Proto = rest[length:], protocolOf(rest[0])
			return Keep
		}
		next, at = rest[0], at+length
	}
}

// headerLen returns the length of an extension header, which may end beyond the packet.
func headerLen(kind byte, b []byte) int {
	if kind == headerFragment || len(b) < fragmentHeaderLen {
		return fragmentHeaderLen // the shortest header has 8 bytes, too
	}
	return (int(b[1]) + 1) * 8
}

// readFragment reads the fragment header that begins at an offset of IP. later tells that
// the packet is not the first fragment, so nothing behind the header can be read. An atomic
// fragment, which is a whole datagram, is a packet like others (RFC 6946).
func (p *Packet) readFragment(at int) (later bool) {
	bits := binary.BigEndian.Uint16(p.IP[at+2:])
	p.Fragment = bits&(fragmentOffset|moreFragments) != 0
	p.Later = bits&fragmentOffset != 0
	p.fragmentAt = uint16(at)
	return p.Later
}

// fragmentHeader returns the packet from its fragment header on. The packet must be a
// fragment.
func (p *Packet) fragmentHeader() []byte { return p.IP[p.fragmentAt:] }

// protocolOf returns the protocol of a next header value. ICMP is not carried over IPv6, and
// its number must not stand for ICMPv6.
func protocolOf(next byte) config.Protocol {
	switch next {
	case nextICMPv6:
		return config.ICMP
	case nextICMPv4:
		return nextReserved
	}
	return config.Protocol(next)
}

// RoutesOn tells whether a Parameter Problem may answer the packet, because a routing header
// would have it sent on to another host (RFC 8200 §4.4). One of type 0 always counts as such
// (RFC 5095). pointer is the offset of the header's type in the packet.
func (p *Packet) RoutesOn() (pointer uint32, ok bool) {
	if !p.isIPv6() || p.Proto != headerRouting || len(p.L4) < 4 || p.routesError() {
		return 0, false
	}
	kind, segmentsLeft := p.L4[2], p.L4[3]
	return uint32(len(p.IP)-len(p.L4)) + 2, kind == 0 || segmentsLeft > 0
}

// routesError tells whether an ICMPv6 error or a redirect may follow the routing header, which
// no error may answer (RFC 4443 §2.4 e). It does not look behind further headers.
func (p *Packet) routesError() bool {
	length := headerLen(headerRouting, p.L4)
	switch next := protocolOf(p.L4[0]); {
	case next == config.TCP || next == config.UDP:
		return false
	case next != config.ICMP || length >= len(p.L4):
		return true
	}
	kind := p.L4[length]
	return kind < ICMPv6Echo || kind == lastNDP
}
