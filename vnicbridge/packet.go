package vnicbridge

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Lengths and offsets of the headers that the userspace path reads.
const (
	vnetHeaderLen = 10 // struct virtio_net_hdr, include/uapi/linux/virtio_net.h
	ethHeaderLen  = 14 // IEEE 802.3, untagged
	ipv4MinLen    = 20 // RFC 791
	tcpMinLen     = 20 // RFC 9293
	udpHeaderLen  = 8  // RFC 768
	icmpHeaderLen = 8  // RFC 792, of an echo
)

// Ethernet types.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherIPv6 = 0x86dd
	etherQinQ = 0x88a8
)

// TCP flags (RFC 9293 §3.1).
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// ICMP types (RFC 792).
const (
	icmpEchoReply        = 0
	icmpUnreachable      = 3
	icmpEcho             = 8
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12
)

// icmpPortUnreachable is a code of icmpUnreachable.
const icmpPortUnreachable = 3

// vnetNeedsCsum is VIRTIO_NET_HDR_F_NEEDS_CSUM: the transport checksum is not
// finished yet.
const vnetNeedsCsum = 1

// frame is one Ethernet frame as devices read and write it: a virtio_net_hdr,
// which carries the state of segmentation and checksum offload across, then the
// frame itself.
type frame struct {
	data   []byte
	tagged bool // it came with a VLAN tag beside the bytes, of another network
}

func (f *frame) eth() []byte { return f.data[vnetHeaderLen:] }

// gsoNone is VIRTIO_NET_HDR_GSO_NONE: the frame is not to be cut up.
const gsoNone = 0

// gsoSize is how much payload each of the packets has into which a device cuts the
// frame, or from which it was put together. 0: it is one packet.
func (f *frame) gsoSize() int {
	if f.data[1] == gsoNone {
		return 0
	}
	return int(binary.NativeEndian.Uint16(f.data[4:]))
}

// isSuperTCP tells whether it is a number of TCP segments over IPv4: what is larger than
// an IP packet can be is none else (VIRTIO_NET_HDR_GSO_TCPV4, but for the bit of ECN).
func (f *frame) isSuperTCP() bool { return f.data[1]&^0x80 == 1 }

func (f *frame) checksumUnfinished() bool { return f.data[0]&vnetNeedsCsum != 0 }

func (f *frame) dstMAC() MAC { return MAC(f.data[vnetHeaderLen:]) }

func (f *frame) srcMAC() MAC { return MAC(f.data[vnetHeaderLen+6:]) }

func (f *frame) etherType() uint16 {
	return binary.BigEndian.Uint16(f.data[vnetHeaderLen+12:])
}

// vlanTagLen is the length of a VLAN tag: its Ethernet type and the tag control
// information, whose lower 12 bits are the VLAN id (IEEE 802.1Q §9.6).
const (
	vlanTagLen = 4
	vlanID     = 0x0fff
)

func isVLAN(etherType uint16) bool { return etherType == etherVLAN || etherType == etherQinQ }

// untag takes a priority tag, whose VLAN id is 0, out of the bytes: such a frame is an
// untagged one (IEEE 802.1Q §6.9.1). False: it has another network's tag, or several.
func (f *frame) untag() bool {
	if f.tagged || !isVLAN(f.etherType()) {
		return !f.tagged
	}
	eth := f.eth()
	if len(eth) < ethHeaderLen+vlanTagLen || binary.BigEndian.Uint16(eth[14:])&vlanID != 0 || isVLAN(binary.BigEndian.Uint16(eth[16:])) {
		return false
	}
	copy(f.data[vlanTagLen:], f.data[:vnetHeaderLen+12]) // the MACs, and what is before them
	f.data = f.data[vlanTagLen:]
	if f.checksumUnfinished() {
		start := f.data[6:8] // virtio_net_hdr.csum_start
		binary.NativeEndian.PutUint16(start, binary.NativeEndian.Uint16(start)-vlanTagLen)
	}
	return true
}

// addr is an IP address as flow keys hold it: 16 bytes, IPv4 mapped into IPv6
// (RFC 4291 §2.5.5.2).
type addr [16]byte

func addrOf(a netip.Addr) addr { return a.As16() }

func addrFrom4(b []byte) addr {
	return addr{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
}

// noAddr is 0.0.0.0, which no host has.
var noAddr = addrFrom4([]byte{0, 0, 0, 0})

func (a addr) netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

func (a addr) v4() []byte { return a[12:16] }

// tuple identifies a flow in one direction. For an ICMP echo the request's
// identifier is its source port and the reply's its destination port, the other
// one being 0, as if the asker were a client.
type tuple struct {
	src, dst     addr
	sport, dport uint16
	proto        Protocol
}

func (t tuple) String() string {
	return fmt.Sprintf("%s %s:%d > %s:%d", t.proto, t.src.netip(), t.sport, t.dst.netip(), t.dport)
}

// reversed is the tuple of the answer.
func (t tuple) reversed() tuple {
	return tuple{src: t.dst, dst: t.src, sport: t.dport, dport: t.sport, proto: t.proto}
}

// packet is what the userspace path needs to know of an IPv4 packet in a frame.
type packet struct {
	tuple
	ip       []byte // from the IP header to the end of the packet, without Ethernet padding
	l4       []byte // the part of ip behind the IP header
	tcpFlags uint8

	fragment  bool // it is a part of a datagram
	later     bool // and not the first: it has no transport header
	icmpError bool // its tuple is that of no flow: see the packet that it quotes
}

// Bits of the flags and fragment offset field (RFC 791).
const (
	ipReserved       = 0x8000
	ipDontFragment   = 0x4000
	ipMoreFragments  = 0x2000
	ipFragmentOffset = 0x1fff // in units of 8 bytes
)

// parseIPv4 reads a frame of type IPv4. The verdict is empty for a packet that
// can belong to a flow.
func parseIPv4(f *frame) (p packet, verdict dropReason) {
	ip := f.eth()[ethHeaderLen:]
	if len(ip) < ipv4MinLen {
		return p, dropMalformed
	}
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if total == 0 && f.isSuperTCP() { // it does not fit the field (iph_totlen in include/linux/ip.h)
		total = len(ip)
	}
	if total > len(ip) {
		return p, dropMalformed
	}
	return p, p.parse(ip[:total])
}

// parse reads a packet, which fills its slice.
func (p *packet) parse(ip []byte) dropReason {
	if verdict := p.parseHeader(ip); verdict != keep {
		return verdict
	}
	if p.later {
		return keep
	}
	return p.parseTransport()
}

func (p *packet) parseHeader(ip []byte) dropReason {
	if len(ip) < ipv4MinLen || ip[0]>>4 != 4 {
		return dropMalformed
	}
	headerLen := int(ip[0]&15) * 4
	if headerLen < ipv4MinLen || headerLen > len(ip) {
		return dropMalformed
	}
	bits := binary.BigEndian.Uint16(ip[6:])
	if bits&ipReserved != 0 {
		return dropMalformed
	}
	*p = packet{
		ip: ip, l4: ip[headerLen:],
		fragment: bits&(ipMoreFragments|ipFragmentOffset) != 0,
		later:    bits&ipFragmentOffset != 0,
	}
	p.src, p.dst = addrFrom4(ip[12:]), addrFrom4(ip[16:])
	p.proto = Protocol(ip[9])
	return keep
}

func (p *packet) parseTransport() dropReason {
	l4 := p.l4
	switch p.proto {
	case TCP:
		if len(l4) < tcpMinLen || int(l4[12]>>4)*4 < tcpMinLen || int(l4[12]>>4)*4 > len(l4) {
			return dropMalformed
		}
		p.tcpFlags = l4[13]
		p.setPorts()
	case UDP:
		if len(l4) < udpHeaderLen || !p.fragment && int(binary.BigEndian.Uint16(l4[4:])) > len(l4) {
			return dropMalformed
		}
		p.setPorts()
	case ICMP:
		return p.parseICMP()
	}
	return keep
}

// headersLen is the length of the headers that each piece of a super-packet has.
func (p *packet) headersLen() int {
	n := len(p.ip) - len(p.l4)
	if p.proto == TCP {
		return n + int(p.l4[12]>>4)*4
	}
	return n + udpHeaderLen
}

func (p *packet) setPorts() {
	p.sport = binary.BigEndian.Uint16(p.l4)
	p.dport = binary.BigEndian.Uint16(p.l4[2:])
}

func (p *packet) parseICMP() dropReason {
	if len(p.l4) < icmpHeaderLen {
		return dropMalformed
	}
	switch p.l4[0] {
	case icmpUnreachable, icmpTimeExceeded, icmpParameterProblem:
		if p.fragment {
			return dropMalformed // RFC 1812 §4.3.2.3: an error is small enough
		}
		p.icmpError = true
	default:
		return p.parseEcho()
	}
	return keep
}

func (p *packet) parseEcho() dropReason {
	id := binary.BigEndian.Uint16(p.l4[4:])
	switch p.l4[0] {
	case icmpEcho:
		p.sport = id
	case icmpEchoReply:
		p.dport = id
	default:
		return dropICMP
	}
	return keep
}

// continues tells whether the packet is from the middle of a TCP connection.
func (p *packet) continues() bool {
	return p.proto == TCP && p.tcpFlags&(tcpSYN|tcpACK|tcpRST) == tcpACK
}

// begins tells whether the packet can begin a flow (F1).
func (p *packet) begins() bool {
	switch p.proto {
	case TCP:
		return p.tcpFlags&(tcpSYN|tcpACK|tcpRST|tcpFIN) == tcpSYN
	case UDP:
		return true
	default:
		return p.l4[0] == icmpEcho
	}
}
