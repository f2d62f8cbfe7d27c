package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Lengths and offsets of the headers that the userspace path reads.
const (
	VNetHeaderLen = 10 // struct virtio_net_hdr, include/uapi/linux/virtio_net.h
	EthHeaderLen  = 14 // IEEE 802.3, untagged
	IPv4MinLen    = 20 // RFC 791
	tcpMinLen     = 20 // RFC 9293
	udpHeaderLen  = 8  // RFC 768
	ICMPHeaderLen = 8  // RFC 792, of an echo
)

// Ethernet types.
const (
	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherVLAN = 0x8100
	EtherIPv6 = 0x86dd
	EtherQinQ = 0x88a8
)

// TCP flags (RFC 9293 §3.1).
const (
	TCPFIN = 1 << 0
	TCPSYN = 1 << 1
	TCPRST = 1 << 2
	TCPACK = 1 << 4
	tcpECE = 1 << 6
	tcpCWR = 1 << 7
)

// tcpAE is the flag of Accurate ECN, in the byte before the other flags (RFC 9768 §2.1).
const tcpAE = 1 << 0

// ICMP types (RFC 792).
const (
	ICMPEchoReply        = 0
	ICMPUnreachable      = 3
	ICMPEcho             = 8
	ICMPTimeExceeded     = 11
	ICMPParameterProblem = 12
)

// Codes of ICMPUnreachable.
const (
	ICMPHostUnreachable     = 1
	ICMPProtocolUnreachable = 2
	ICMPPortUnreachable     = 3
	ICMPFragmentationNeeded = 4
)

// Flags of a virtio_net_hdr.
const (
	VNetNeedsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM: a device must still finish the transport checksum
	vnetDataValid = 2 // VIRTIO_NET_HDR_F_DATA_VALID: a device has verified it
)

// Frame is one Ethernet frame as devices read and write it: a virtio_net_hdr, which
// describes segmentation and checksum offload, and then the frame itself.
type Frame struct {
	Data   []byte
	Tagged bool // the kernel had removed the VLAN tag of another network from the bytes
}

// Eth returns the frame without its virtio_net_hdr, from the Ethernet header on.
func (f *Frame) Eth() []byte { return f.Data[VNetHeaderLen:] }

// GSONone is VIRTIO_NET_HDR_GSO_NONE: the frame holds one packet, not a super-packet.
const GSONone = 0

// GsoSize returns the payload size, in bytes, of the packets that a super-packet stands
// for. It is 0 if the frame holds one packet.
func (f *Frame) GsoSize() int {
	if f.Data[1] == GSONone {
		return 0
	}
	return int(binary.NativeEndian.Uint16(f.Data[4:]))
}

// Types of super-packets of TCP: VIRTIO_NET_HDR_GSO_TCPV4 and VIRTIO_NET_HDR_GSO_TCPV6.
const (
	gsoTCPv4 = 1
	gsoTCPv6 = 4
)

// isSuper tells whether the frame is a super-packet of the given type, with or without the
// ECN bit. Only super-packets of TCP can be larger than 64 KiB.
func (f *Frame) isSuper(gsoType byte) bool { return f.Data[1]&^0x80 == gsoType }

// ChecksumUnfinished tells whether a device must still finish the transport checksum. Until
// then the field holds the sum over the pseudo header.
func (f *Frame) ChecksumUnfinished() bool { return f.Data[0]&VNetNeedsCsum != 0 }

// ChecksumVerified tells whether the transport checksum needs no check: a device has verified it,
// or it is unfinished, because the packet has crossed no wire since it was made or gathered.
func (f *Frame) ChecksumVerified() bool { return f.Data[0]&(VNetNeedsCsum|vnetDataValid) != 0 }

// DstMAC returns the destination MAC. The frame must have an Ethernet header.
func (f *Frame) DstMAC() config.MAC { return config.MAC(f.Data[VNetHeaderLen:]) }

// SrcMAC returns the source MAC. The frame must have an Ethernet header.
func (f *Frame) SrcMAC() config.MAC { return config.MAC(f.Data[VNetHeaderLen+6:]) }

// EtherType returns the Ethernet type, which of a frame with a VLAN tag in its bytes is the
// tag's. The frame must have an Ethernet header.
func (f *Frame) EtherType() uint16 {
	return binary.BigEndian.Uint16(f.Data[VNetHeaderLen+12:])
}

// A VLAN tag consists of an Ethernet type and the tag control information (IEEE 802.1Q
// §9.6).
const (
	VLANTagLen = 4      // bytes
	VLANID     = 0x0fff // the bits of the VLAN id in the tag control information
)

// IsVLAN tells whether an Ethernet type is that of a VLAN tag (IEEE 802.1Q, 802.1ad).
func IsVLAN(etherType uint16) bool { return etherType == EtherVLAN || etherType == EtherQinQ }

// Untag removes a priority tag, whose VLAN id is 0, from the bytes, because such a frame
// counts as untagged (IEEE 802.1Q §6.9.1). It returns false if the frame has the tag of
// another network, or several tags.
func (f *Frame) Untag() bool {
	if f.Tagged || !IsVLAN(f.EtherType()) {
		return !f.Tagged
	}
	eth := f.Eth()
	if len(eth) < EthHeaderLen+VLANTagLen || binary.BigEndian.Uint16(eth[14:])&VLANID != 0 || IsVLAN(binary.BigEndian.Uint16(eth[16:])) {
		return false
	}
	copy(f.Data[VLANTagLen:], f.Data[:VNetHeaderLen+12]) // the virtio_net_hdr and the MACs
	f.Data = f.Data[VLANTagLen:]
	if f.ChecksumUnfinished() {
		start := f.Data[6:8] // virtio_net_hdr.csum_start
		binary.NativeEndian.PutUint16(start, binary.NativeEndian.Uint16(start)-VLANTagLen)
	}
	return true
}

// Addr is an IP address as flow keys hold it: 16 bytes, IPv4 mapped into IPv6
// (RFC 4291 §2.5.5.2).
type Addr [16]byte

// AddrOf converts an address. The inverse is [Addr.Netip]. The zero netip.Addr gives NoAddr.
func AddrOf(a netip.Addr) Addr {
	if !a.IsValid() {
		return NoAddr
	}
	return a.As16()
}

// AddrFrom4 reads an IPv4 address from the first 4 bytes of a slice.
func AddrFrom4(b []byte) Addr {
	return Addr{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
}

// NoAddr is 0.0.0.0, which no host has.
var NoAddr = AddrFrom4([]byte{0, 0, 0, 0})

// IsUnicast tells whether the address can be that of one host.
func (a Addr) IsUnicast() bool {
	ip := a.Netip()
	return !ip.IsMulticast() && !ip.IsUnspecified()
}

// Netip converts the address. An IPv4 address comes out as IPv4, not as mapped into IPv6.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// V4 returns the 4 bytes of an IPv4 address.
func (a Addr) V4() []byte { return a[12:16] }

// IsIPv6 tells whether the address is not one of IPv4.
func (a Addr) IsIPv6() bool {
	const mapped = 0xffff
	return binary.BigEndian.Uint64(a[:]) != 0 || binary.BigEndian.Uint32(a[8:]) != mapped
}

// Family returns the family of the address.
func (a Addr) Family() config.Family {
	if a.IsIPv6() {
		return config.IPv6
	}
	return config.IPv4
}

// SiteOf returns what the addresses of one client have in common: an IPv4 address itself, or
// the first 64 bits of an IPv6 address, of which one customer has the others.
func SiteOf(a Addr) Addr {
	if a.IsIPv6() {
		clear(a[8:])
	}
	return a
}

// Tuple identifies a flow in one direction. An ICMP echo has no ports: the identifier
// stands for the source port of a request and for the destination port of a reply, and the
// other port is 0. So whoever pings is the client. Proto is ICMP in both families.
type Tuple struct {
	Src, Dst     Addr
	Sport, Dport uint16
	Proto        config.Protocol
}

func (t Tuple) String() string {
	return fmt.Sprintf("%s %s:%d > %s:%d", t.Proto, t.Src.Netip(), t.Sport, t.Dst.Netip(), t.Dport)
}

// Reversed returns the tuple of the packets that answer packets with tuple t.
func (t Tuple) Reversed() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, Sport: t.Dport, Dport: t.Sport, Proto: t.Proto}
}

// Packet is a parsed packet of either family. Its slices point into the frame. Proto is ICMP
// for ICMPv6 too, and no protocol that is carried for ICMP of IPv4 in an IPv6 packet.
type Packet struct {
	Tuple
	IP       []byte // from the IP header to the end of the packet, without Ethernet padding
	L4       []byte // the part of IP behind the IP header and the extension headers of IPv6
	TCPFlags uint8

	Fragment  bool // it is a fragment of a datagram
	Later     bool // it is a fragment other than the first, so it has no transport header
	ICMPError bool // Tuple identifies no flow; the quoted packet does

	fragmentAt uint16 // where the fragment header of IPv6 begins in IP; 0: there is none
}

// isIPv6 tells the family of a packet whose IP header has been parsed.
func (p *Packet) isIPv6() bool { return p.IP[0]>>4 == 6 }

// Carried tells whether the packet's protocol can have flows. Only the first fragment of an
// IPv6 datagram tells the protocol, if options stand before it (RFC 8200 §4.5).
func (p *Packet) Carried() bool {
	return p.Proto.Carried() || p.Later && p.isIPv6() && p.Proto == headerOptions
}

// Bits of the flags and fragment offset field (RFC 791).
const (
	ipReserved       = 0x8000
	ipDontFragment   = 0x4000
	IPMoreFragments  = 0x2000
	IPFragmentOffset = 0x1fff // in units of 8 bytes
)

// ParseIPv4 parses a frame whose Ethernet type is IPv4. The verdict is Keep if the packet
// is well-formed and its ICMP type, if any, is carried.
func ParseIPv4(f *Frame) (p Packet, verdict DropReason) {
	ip := f.Eth()[EthHeaderLen:]
	if len(ip) < IPv4MinLen {
		return p, DropMalformed
	}
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if total == 0 && f.isSuper(gsoTCPv4) { // larger than the field can tell (iph_totlen in include/linux/ip.h)
		total = len(ip)
	}
	if total > len(ip) {
		return p, DropMalformed
	}
	if verdict := p.parseIPv4(ip[:total]); verdict != Keep || p.Later {
		return p, verdict
	}
	return p, p.parseTransport()
}

// ParseHeader sets p to the packet of either family at the beginning of ip, without the
// ports and what else the transport header says.
func (p *Packet) ParseHeader(ip []byte) DropReason {
	if len(ip) > 0 && ip[0]>>4 == 6 {
		return p.parseIPv6(ip)
	}
	return p.parseIPv4(ip)
}

// parseIPv4 is ParseHeader for IPv4.
func (p *Packet) parseIPv4(ip []byte) DropReason {
	if len(ip) < IPv4MinLen || ip[0]>>4 != 4 {
		return DropMalformed
	}
	headerLen := int(ip[0]&15) * 4
	if headerLen < IPv4MinLen || headerLen > len(ip) {
		return DropMalformed
	}
	bits := binary.BigEndian.Uint16(ip[6:])
	if bits&ipReserved != 0 {
		return DropMalformed
	}
	*p = Packet{
		IP: ip, L4: ip[headerLen:],
		Fragment: bits&(IPMoreFragments|IPFragmentOffset) != 0,
		Later:    bits&IPFragmentOffset != 0,
	}
	p.Src, p.Dst = AddrFrom4(ip[12:]), AddrFrom4(ip[16:])
	p.Proto = config.Protocol(ip[9])
	return Keep
}

func (p *Packet) parseTransport() DropReason {
	l4 := p.L4
	switch p.Proto {
	case config.TCP:
		if len(l4) < tcpMinLen || int(l4[12]>>4)*4 < tcpMinLen || int(l4[12]>>4)*4 > len(l4) {
			return DropMalformed
		}
		p.TCPFlags = l4[13]
		p.SetPorts()
	case config.UDP:
		if len(l4) < udpHeaderLen || !p.Fragment && int(binary.BigEndian.Uint16(l4[4:])) > len(l4) {
			return DropMalformed
		}
		p.SetPorts()
	case config.ICMP:
		return p.ParseICMP()
	}
	return Keep
}

// HeadersLen returns how many bytes of IP and transport header each packet of a
// super-packet has. p must be TCP or UDP.
func (p *Packet) HeadersLen() int {
	n := len(p.IP) - len(p.L4)
	if p.Proto == config.TCP {
		return n + int(p.L4[12]>>4)*4
	}
	return n + udpHeaderLen
}

// UDPPayload returns what a UDP packet carries.
func (p *Packet) UDPPayload() []byte { return p.L4[udpHeaderLen:] }

// SetPorts reads the ports from L4, which must have at least 4 bytes.
func (p *Packet) SetPorts() {
	p.Sport = binary.BigEndian.Uint16(p.L4)
	p.Dport = binary.BigEndian.Uint16(p.L4[2:])
}

// ParseICMP reads an ICMP or ICMPv6 message: an echo's identifier into the tuple, or that it
// is an error. Other types give DropICMP.
func (p *Packet) ParseICMP() DropReason {
	if len(p.L4) < ICMPHeaderLen {
		return DropMalformed
	}
	if !p.isICMPError() {
		return p.parseEcho()
	}
	if p.Fragment {
		return DropMalformed // an error has at most 576 bytes (RFC 1812 §4.3.2.3), or 1280 (RFC 4443 §2.4 c)
	}
	p.ICMPError = true
	return Keep
}

func (p *Packet) isICMPError() bool {
	kind := p.L4[0]
	if p.isIPv6() {
		return kind >= ICMPv6Unreachable && kind <= ICMPv6ParameterProblem
	}
	return kind == ICMPUnreachable || kind == ICMPTimeExceeded || kind == ICMPParameterProblem
}

func (p *Packet) parseEcho() DropReason {
	request, reply := uint8(ICMPEcho), uint8(ICMPEchoReply)
	if p.isIPv6() {
		request, reply = ICMPv6Echo, ICMPv6EchoReply
	}
	id := binary.BigEndian.Uint16(p.L4[4:])
	switch p.L4[0] {
	case request:
		p.Sport = id
	case reply:
		p.Dport = id
	default:
		return DropICMP
	}
	return Keep
}

// IsPortUnreachable tells whether an ICMP error of either family says that a port is closed.
func (p *Packet) IsPortUnreachable() bool {
	if p.isIPv6() {
		return p.L4[0] == ICMPv6Unreachable && p.L4[1] == ICMPv6PortUnreachable
	}
	return p.L4[0] == ICMPUnreachable && p.L4[1] == ICMPPortUnreachable
}

// IsEchoRequest tells whether a well-formed ICMP message of either family is an echo request.
func (p *Packet) IsEchoRequest() bool { return p.L4[0] == ICMPEcho || p.L4[0] == ICMPv6Echo }

// Continues tells whether the packet is a TCP segment from within a connection: it has an
// ACK, but no SYN and no RST.
func (p *Packet) Continues() bool {
	return p.Proto == config.TCP && p.TCPFlags&(TCPSYN|TCPACK|TCPRST) == TCPACK
}

// Answers tells whether the packet can be an answer: a TCP segment with an ACK, any UDP packet, or
// an echo reply.
func (p *Packet) Answers() bool {
	if p.Proto == config.TCP {
		return p.TCPFlags&TCPACK != 0
	}
	return p.Proto == config.UDP || !p.IsEchoRequest()
}

// Begins tells whether the packet can begin a flow (F1): a TCP SYN, any UDP packet, or an
// echo request.
func (p *Packet) Begins() bool {
	switch p.Proto {
	case config.TCP:
		return p.TCPFlags&(TCPSYN|TCPACK|TCPRST|TCPFIN) == TCPSYN
	case config.UDP:
		return true
	default:
		return p.IsEchoRequest()
	}
}
