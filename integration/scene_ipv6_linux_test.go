package integration_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// The pseudo address, and segment a's own, as hosts of URLs and of sockets' addresses.
const (
	pseudo6 = "[2001:db8:1::2]"
	server6 = "[fd00:50::1]"
)

// allNodes6 is the group of all hosts on a link (RFC 4291 §2.7.1).
var allNodes6 = netip.MustParseAddr("ff02::1")

// solicitedNode is the group in which a host listens for questions about an address of its own
// (RFC 4291 §2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	raw := netip.MustParseAddr("ff02::1:ff00:0").As16()
	own := a.As16()
	copy(raw[13:], own[13:])
	return netip.AddrFrom16(raw)
}

// groupMAC is the MAC of an IPv6 group (RFC 2464 §7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	raw := group.As16()
	return append(net.HardwareAddr{0x33, 0x33}, raw[12:]...)
}

// ends6 are the addresses of an IPv6 packet in a frame.
type ends6 struct {
	srcMAC, dstMAC net.HardwareAddr
	src, dst       netip.Addr
}

// toGroup are the ends of a packet for a group.
func toGroup(mac net.HardwareAddr, src, group netip.Addr) ends6 {
	return ends6{mac, groupMAC(group), src, group}
}

// frame is a packet in its frame. The checksums of what is in it are made right.
func (e ends6) frame(next layers.IPProtocol, hopLimit uint8, content ...gopacket.SerializableLayer) []byte {
	ip := &layers.IPv6{Version: 6, NextHeader: next, HopLimit: hopLimit, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
	for _, l := range content {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(ip); err != nil {
				panic(err)
			}
		}
	}
	return serialize(append([]gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: e.srcMAC, DstMAC: e.dstMAC, EthernetType: layers.EthernetTypeIPv6}, ip,
	}, content...)...)
}

// icmp6 is a message of ICMPv6.
func (e ends6) icmp6(kind, code, hopLimit uint8, body ...gopacket.SerializableLayer) []byte {
	message := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
	return e.frame(layers.IPProtocolICMPv6, hopLimit, append([]gopacket.SerializableLayer{message}, body...)...)
}

// udp6 is a datagram.
func (e ends6) udp6(from, to uint16, payload []byte) []byte {
	return e.frame(layers.IPProtocolUDP, 64, &layers.UDP{SrcPort: layers.UDPPort(from), DstPort: layers.UDPPort(to)}, gopacket.Payload(payload))
}

// packets6 is packets for IPv6: a datagram, a TCP SYN, an answer to one, a segment of no
// connection, and an echo request.
func (e ends6) packets6(payload []byte) (frames [][]byte) {
	frames = append(frames, e.udp6(80, 80, payload))
	for _, tcp := range []*layers.TCP{{SYN: true}, {SYN: true, ACK: true}, {ACK: true, PSH: true}} {
		tcp.SrcPort, tcp.DstPort, tcp.Window = 80, 80, 1000
		frames = append(frames, e.frame(layers.IPProtocolTCP, 64, tcp, gopacket.Payload(payload)))
	}
	return append(frames, e.icmp6(layers.ICMPv6TypeEchoRequest, 0, 64, &layers.ICMPv6Echo{Identifier: 80}, gopacket.Payload(payload)))
}

// solicit is a Neighbor Solicitation. Without a MAC it has no Source Link-Layer Address.
func (e ends6) solicit(target netip.Addr, mac net.HardwareAddr) []byte {
	s := &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice()}
	if mac != nil {
		s.Options = layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac}}
	}
	return e.icmp6(layers.ICMPv6TypeNeighborSolicitation, 0, 255, s)
}

// advertisement is a Neighbor Advertisement as it came.
type advertisement struct {
	ends6
	target                      netip.Addr
	mac                         net.HardwareAddr // of the option; nil: there is none
	router, solicited, override bool
	hopLimit                    uint8
}

// readAdvertisement takes a frame apart; ok is false if it is no Neighbor Advertisement.
func readAdvertisement(frame []byte) (a advertisement, ok bool) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	eth, isEthernet := p.LinkLayer().(*layers.Ethernet)
	ip, isIP := p.NetworkLayer().(*layers.IPv6)
	na, isNA := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if !isEthernet || !isIP || !isNA {
		return a, false
	}
	a.srcMAC, a.dstMAC, a.hopLimit = eth.SrcMAC, eth.DstMAC, ip.HopLimit
	a.src, _ = netip.AddrFromSlice(ip.SrcIP)
	a.dst, _ = netip.AddrFromSlice(ip.DstIP)
	a.target, _ = netip.AddrFromSlice(na.TargetAddress)
	a.router, a.solicited, a.override = na.Router(), na.Solicited(), na.Override()
	for _, o := range na.Options {
		if o.Type == layers.ICMPv6OptTargetAddress {
			a.mac = slices.Clone(o.Data)
		}
	}
	return a, true
}

// advertisements are the Neighbor Advertisements that come within a time, but not the host's
// own, which its socket sees, too.
func advertisements(conn *packet.Conn, own net.HardwareAddr, within time.Duration) (came []advertisement) {
	conn.SetReadDeadline(time.Now().Add(within))
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return came // the deadline: nothing else ends a read here
		}
		if a, ok := readAdvertisement(buffer[:n]); ok && !bytes.Equal(a.srcMAC, own) {
			came = append(came, a)
		}
	}
}

// isIPv6 tells whether a frame has the Ethernet type of IPv6.
func isIPv6(f netlab.Frame) bool {
	return len(f.Data) >= 54 && binary.BigEndian.Uint16(f.Data[12:]) == uint16(layers.EthernetTypeIPv6)
}

// ends of a frame of IPv6.
func endsOf6(f netlab.Frame) ends6 {
	return ends6{
		srcMAC: f.Data[6:12], dstMAC: f.Data[:6],
		src: netip.AddrFrom16([16]byte(f.Data[22:38])), dst: netip.AddrFrom16([16]byte(f.Data[38:54])),
	}
}
