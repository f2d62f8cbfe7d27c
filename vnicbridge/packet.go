package vnicbridge

import (
	"encoding/binary"
	"net/netip"
)

// Lengths and offsets of the headers that the fast path reads.
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
	icmpEchoReply   = 0
	icmpUnreachable = 3
	icmpEcho        = 8
)

// vnetNeedsCsum is VIRTIO_NET_HDR_F_NEEDS_CSUM: the transport checksum is not
// finished yet.
const vnetNeedsCsum = 1

// frame is one Ethernet frame as devices read and write it: a virtio_net_hdr,
// which carries the state of segmentation and checksum offload across, then the
// frame itself.
type frame struct {
	data   []byte
	tagged bool // it came with a VLAN tag that the kernel keeps beside the bytes
}

func (f *frame) eth() []byte { return f.data[vnetHeaderLen:] }

func (f *frame) checksumUnfinished() bool { return f.data[0]&vnetNeedsCsum != 0 }

func (f *frame) dstMAC() MAC { return MAC(f.data[vnetHeaderLen:]) }

func (f *frame) srcMAC() MAC { return MAC(f.data[vnetHeaderLen+6:]) }

func (f *frame) etherType() uint16 {
	return binary.BigEndian.Uint16(f.data[vnetHeaderLen+12:])
}

// addr is an IP address as flow keys hold it: 16 bytes, IPv4 mapped into IPv6
// (RFC 4291 §2.5.5.2).
type addr [16]byte

func addrOf(a netip.Addr) addr { return a.As16() }

func addrFrom4(b []byte) addr {
	return addr{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}
}

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

// reversed is the tuple of the answer.
func (t tuple) reversed() tuple {
	return tuple{src: t.dst, dst: t.src, sport: t.dport, dport: t.sport, proto: t.proto}
}

// packet is what the fast path needs to know of an IPv4 packet in a frame.
type packet struct {
	tuple
	ip       []byte // from the IP header to the end of the packet, without Ethernet padding
	l4       []byte // the part of ip behind the IP header
	tcpFlags uint8
}

// parseIPv4 reads a frame of type IPv4. The verdict is empty for a packet that
// can belong to a flow.
func parseIPv4(f *frame) (p packet, verdict dropReason) {
	ip := f.eth()[ethHeaderLen:]
	if len(ip) < ipv4MinLen || ip[0]>>4 != 4 {
		return p, dropMalformed
	}
	headerLen := int(ip[0]&15) * 4
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if headerLen < ipv4MinLen || total < headerLen || total > len(ip) {
		return p, dropMalformed
	}
	p.ip = ip[:total]
	p.l4 = p.ip[headerLen:]
	p.src, p.dst = addrFrom4(ip[12:]), addrFrom4(ip[16:])
	p.proto = Protocol(ip[9])
	// Any bit but DF: a fragment, or the reserved one.
	if binary.BigEndian.Uint16(ip[6:])&^0x4000 != 0 {
		return p, dropFragment
	}
	return p, p.parseTransport()
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
		if len(l4) < udpHeaderLen || int(binary.BigEndian.Uint16(l4[4:])) > len(l4) {
			return dropMalformed
		}
		p.setPorts()
	case ICMP:
		return p.parseICMP()
	default:
		return dropProtocol
	}
	return keep
}

func (p *packet) setPorts() {
	p.sport = binary.BigEndian.Uint16(p.l4)
	p.dport = binary.BigEndian.Uint16(p.l4[2:])
}

func (p *packet) parseICMP() dropReason {
	if len(p.l4) < icmpHeaderLen {
		return dropMalformed
	}
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
