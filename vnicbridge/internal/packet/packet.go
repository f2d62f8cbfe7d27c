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
)

// ICMP types (RFC 792).
const (
	ICMPEchoReply        = 0
	ICMPUnreachable      = 3
	ICMPEcho             = 8
	ICMPTimeExceeded     = 11
	ICMPParameterProblem = 12
)

// ICMPPortUnreachable is a code of ICMPUnreachable.
const ICMPPortUnreachable = 3

// VNetNeedsCsum is VIRTIO_NET_HDR_F_NEEDS_CSUM: the transport checksum is not
// finished yet.
const VNetNeedsCsum = 1

// Frame is one Ethernet frame as devices read and write it: a virtio_net_hdr,
// which carries the state of segmentation and checksum offload across, then the
// frame itself.
type Frame struct {
	Data   []byte
	Tagged bool // it came with a VLAN tag beside the bytes, of another network
}

func (f *Frame) Eth() []byte { return f.Data[VNetHeaderLen:] }

// GSONone is VIRTIO_NET_HDR_GSO_NONE: the frame is not to be cut up.
const GSONone = 0

// GsoSize is how much payload each of the packets has into which a device cuts the
// frame, or from which it was put together. 0: it is one packet.
func (f *Frame) GsoSize() int {
	if f.Data[1] == GSONone {
		return 0
	}
	return int(binary.NativeEndian.Uint16(f.Data[4:]))
}

// isSuperTCP tells whether it is a number of TCP segments over IPv4: what is larger than
// an IP packet can be is none else (VIRTIO_NET_HDR_GSO_TCPV4, but for the bit of ECN).
func (f *Frame) isSuperTCP() bool { return f.Data[1]&^0x80 == 1 }

func (f *Frame) ChecksumUnfinished() bool { return f.Data[0]&VNetNeedsCsum != 0 }

func (f *Frame) DstMAC() config.MAC { return config.MAC(f.Data[VNetHeaderLen:]) }

func (f *Frame) SrcMAC() config.MAC { return config.MAC(f.Data[VNetHeaderLen+6:]) }

func (f *Frame) EtherType() uint16 {
	return binary.BigEndian.Uint16(f.Data[VNetHeaderLen+12:])
}

// VLANTagLen is the length of a VLAN tag: its Ethernet type and the tag control
// information, whose lower 12 bits are the VLAN id (IEEE 802.1Q §9.6).
const (
	VLANTagLen = 4
	VLANID     = 0x0fff
)

func IsVLAN(etherType uint16) bool { return etherType == EtherVLAN || etherType == EtherQinQ }

// Untag takes a priority tag, whose VLAN id is 0, out of the bytes: such a frame is an
// untagged one (IEEE 802.1Q §6.9.1). False: it has another network's tag, or several.
func (f *Frame) Untag() bool {
	if f.Tagged || !IsVLAN(f.EtherType()) {
		return !f.Tagged
	}
	eth := f.Eth()
	if len(eth) < EthHeaderLen+VLANTagLen || binary.BigEndian.Uint16(eth[14:])&VLANID != 0 || IsVLAN(binary.BigEndian.Uint16(eth[16:])) {
		return false
	}
	copy(f.Data[VLANTagLen:], f.Data[:VNetHeaderLen+12]) // the MACs, and what is before them
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

func AddrOf(a netip.Addr) Addr { return a.As16() }

func AddrFrom4(b []byte) Addr {
	return Addr{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
}

// NoAddr is 0.0.0.0, which no host has.
var NoAddr = AddrFrom4([]byte{0, 0, 0, 0})

func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

func (a Addr) V4() []byte { return a[12:16] }

// Tuple identifies a flow in one direction. For an ICMP echo the request's
// identifier is its source port and the reply's its destination port, the other
// one being 0, as if the asker were a client.
type Tuple struct {
	Src, Dst     Addr
	Sport, Dport uint16
	Proto        config.Protocol
}

func (t Tuple) String() string {
	return fmt.Sprintf("%s %s:%d > %s:%d", t.Proto, t.Src.Netip(), t.Sport, t.Dst.Netip(), t.Dport)
}

// Reversed is the tuple of the answer.
func (t Tuple) Reversed() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, Sport: t.Dport, Dport: t.Sport, Proto: t.Proto}
}

// Packet is what the userspace path needs to know of an IPv4 packet in a frame.
type Packet struct {
	Tuple
	IP       []byte // from the IP header to the end of the packet, without Ethernet padding
	L4       []byte // the part of ip behind the IP header
	TCPFlags uint8

	Fragment  bool // it is a part of a datagram
	Later     bool // and not the first: it has no transport header
	ICMPError bool // its tuple is that of no flow: see the packet that it quotes
}

// Bits of the flags and fragment offset field (RFC 791).
const (
	ipReserved       = 0x8000
	ipDontFragment   = 0x4000
	IPMoreFragments  = 0x2000
	IPFragmentOffset = 0x1fff // in units of 8 bytes
)

// ParseIPv4 reads a frame of type IPv4. The verdict is empty for a packet that
// can belong to a flow.
func ParseIPv4(f *Frame) (p Packet, verdict DropReason) {
	ip := f.Eth()[EthHeaderLen:]
	if len(ip) < IPv4MinLen {
		return p, DropMalformed
	}
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if total == 0 && f.isSuperTCP() { // it does not fit the field (iph_totlen in include/linux/ip.h)
		total = len(ip)
	}
	if total > len(ip) {
		return p, DropMalformed
	}
	return p, p.parse(ip[:total])
}

// parse reads a packet, which fills its slice.
func (p *Packet) parse(ip []byte) DropReason {
	if verdict := p.ParseHeader(ip); verdict != Keep {
		return verdict
	}
	if p.Later {
		return Keep
	}
	return p.parseTransport()
}

func (p *Packet) ParseHeader(ip []byte) DropReason {
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

// HeadersLen is the length of the headers that each piece of a super-packet has.
func (p *Packet) HeadersLen() int {
	n := len(p.IP) - len(p.L4)
	if p.Proto == config.TCP {
		return n + int(p.L4[12]>>4)*4
	}
	return n + udpHeaderLen
}

func (p *Packet) SetPorts() {
	p.Sport = binary.BigEndian.Uint16(p.L4)
	p.Dport = binary.BigEndian.Uint16(p.L4[2:])
}

func (p *Packet) ParseICMP() DropReason {
	if len(p.L4) < ICMPHeaderLen {
		return DropMalformed
	}
	switch p.L4[0] {
	case ICMPUnreachable, ICMPTimeExceeded, ICMPParameterProblem:
		if p.Fragment {
			return DropMalformed // RFC 1812 §4.3.2.3: an error is small enough
		}
		p.ICMPError = true
	default:
		return p.parseEcho()
	}
	return Keep
}

func (p *Packet) parseEcho() DropReason {
	id := binary.BigEndian.Uint16(p.L4[4:])
	switch p.L4[0] {
	case ICMPEcho:
		p.Sport = id
	case ICMPEchoReply:
		p.Dport = id
	default:
		return DropICMP
	}
	return Keep
}

// Continues tells whether the packet is from the middle of a TCP connection.
func (p *Packet) Continues() bool {
	return p.Proto == config.TCP && p.TCPFlags&(TCPSYN|TCPACK|TCPRST) == TCPACK
}

// Begins tells whether the packet can begin a flow (F1).
func (p *Packet) Begins() bool {
	switch p.Proto {
	case config.TCP:
		return p.TCPFlags&(TCPSYN|TCPACK|TCPRST|TCPFIN) == TCPSYN
	case config.UDP:
		return true
	default:
		return p.L4[0] == ICMPEcho
	}
}
