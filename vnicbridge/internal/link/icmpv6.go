package link

import (
	"encoding/binary"
	"errors"
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Lengths of headers in bytes.
const (
	hopByHopUnit     = 8 // the unit of a hop-by-hop header's length (RFC 8200 §4.3)
	icmpv6MessageLen = 8 // of the shortest message of NDP and MLD, a Router Solicitation
)

// unspecified is the address ::.
var unspecified packet.Addr

// allNodes is ff02::1, the group of all hosts on a link (RFC 4291 §2.7.1).
var allNodes = packet.Addr{0: 0xff, 1: 0x02, 15: 1}

// SolicitedNode returns the solicited-node group of an address (RFC 4291 §2.7.1). Neighbor
// Solicitations for the address go there.
func SolicitedNode(a packet.Addr) packet.Addr {
	return packet.Addr{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
}

// GroupMAC returns the MAC to which packets for a multicast group of IPv6 go (RFC 2464 §7).
func GroupMAC(group packet.Addr) config.MAC {
	return config.MAC{0x33, 0x33, group[12], group[13], group[14], group[15]}
}

func isMulticast(a packet.Addr) bool { return a[0] == 0xff }

// isLinkLocal tells whether an address is in fe80::/10.
func isLinkLocal(a packet.Addr) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// icmpv6 is an ICMPv6 message with what the headers before it say. The body points into the
// frame.
type icmpv6 struct {
	src, dst    packet.Addr
	hopLimit    uint8
	routerAlert bool   // a hop-by-hop header has the Router Alert option for MLD
	body        []byte // from the type on; at least icmpv6MessageLen bytes
}

func (m *icmpv6) kind() uint8 { return m.body[0] }

func (m *icmpv6) code() uint8 { return m.body[1] }

var errNotICMPv6 = errors.New("not a whole ICMPv6 message")

// parseICMPv6 parses a frame whose Ethernet type is IPv6. It returns an error unless an
// ICMPv6 message with a correct checksum follows the IPv6 header or a hop-by-hop header, and
// unless a message of NDP has that protocol's hop limit. So a fragment is an error, as
// RFC 6980 §5 demands of NDP.
func parseICMPv6(f *packet.Frame) (m icmpv6, err error) {
	ip := f.Eth()[packet.EthHeaderLen:]
	if len(ip) < packet.IPv6HeaderLen || ip[0]>>4 != 6 {
		return m, errNotICMPv6
	}
	m = icmpv6{src: packet.Addr(ip[8:]), dst: packet.Addr(ip[24:]), hopLimit: ip[7]}
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if length > len(ip)-packet.IPv6HeaderLen || !m.src.IsIPv6() || !m.dst.IsIPv6() || isMulticast(m.src) {
		return m, errNotICMPv6
	}
	next := layers.IPProtocol(ip[6])
	m.body = ip[packet.IPv6HeaderLen : packet.IPv6HeaderLen+length] // without Ethernet padding
	if next == layers.IPProtocolIPv6HopByHop {
		if next, err = m.takeHopByHop(); err != nil {
			return m, err
		}
	}
	if next != layers.IPProtocolICMPv6 || len(m.body) < icmpv6MessageLen || m.isNDP() && m.hopLimit != ndpHopLimit {
		return m, errNotICMPv6
	}
	if p := (packet.Packet{IP: ip, L4: m.body}); !f.ChecksumUnfinished() && !p.ValidICMP() {
		return m, errNotICMPv6
	}
	return m, nil
}

// takeHopByHop reads the hop-by-hop header at the beginning of the body, and removes it from
// there. It returns the type of the next header.
func (m *icmpv6) takeHopByHop() (next layers.IPProtocol, err error) {
	if len(m.body) < hopByHopUnit {
		return 0, errNotICMPv6
	}
	length := (int(m.body[1]) + 1) * hopByHopUnit
	if length > len(m.body) {
		return 0, errNotICMPv6
	}
	next = layers.IPProtocol(m.body[0])
	m.routerAlert, err = hasRouterAlert(m.body[2:length])
	m.body = m.body[length:]
	return next, err
}

// Options of a hop-by-hop header.
const (
	optionPad1        = 0 // RFC 8200 §4.2; the only option without a length
	optionPadN        = 1
	optionRouterAlert = 5 // RFC 2711 §2.1
)

// hasRouterAlert tells whether options have the Router Alert option with value 0, which
// stands for MLD (RFC 2711 §2.1). The error says that an option does not fit.
func hasRouterAlert(options []byte) (found bool, err error) {
	for len(options) > 0 {
		if options[0] == optionPad1 {
			options = options[1:]
			continue
		}
		if len(options) < 2 || len(options) < 2+int(options[1]) {
			return false, errNotICMPv6
		}
		value := options[2 : 2+options[1]]
		if options[0] == optionRouterAlert && len(value) == 2 && value[0]|value[1] == 0 {
			found = true
		}
		options = options[2+len(value):]
	}
	return found, nil
}

// icmpv6Frame returns a frame with an ICMPv6 message. If the IPv6 header has a hop-by-hop
// header, the message follows that.
func icmpv6Frame(src, dst config.MAC, ip *layers.IPv6, kind uint8, message gopacket.SerializableLayer) packet.Frame {
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		panic("link: cannot serialize a message: " + err.Error())
	}
	return packet.BuildFrame(src, dst, layers.EthernetTypeIPv6, ip, icmp, message)
}

func ipv6Header(from, to packet.Addr, hopLimit uint8) *layers.IPv6 {
	return &layers.IPv6{
		Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: hopLimit,
		SrcIP: net.IP(from[:]), DstIP: net.IP(to[:]),
	}
}
