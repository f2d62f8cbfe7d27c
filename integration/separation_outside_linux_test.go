package integration_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// outsider is a host that sends frames to one of the server's devices.
type outsider struct {
	s       *separation
	name    string
	conn    *packet.Conn
	mac     net.HardwareAddr
	address string
	server  net.HardwareAddr // the MAC of the server's device
	entry   entry
}

func (s *separation) outsider(name string, h *netlab.Host, device, address, serverDevice string) *outsider {
	s.t.Helper()
	conn, mac, err := rawSocket(h, device)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	link, err := s.Server.Netlink().LinkByName(serverDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	return &outsider{s, name, conn, mac, address, link.Attrs().HardwareAddr, entry{device: serverDevice}}
}

// probe is one that sends frames.
func (o *outsider) probe(name string, frames func(mark []byte) [][]byte) *probe {
	return newProbe(o.name, name, o.entry, func(mark []byte) { o.s.sendFrames(o.conn, frames(mark)...) })
}

// to sends a packet of each kind to an address, honestly.
func (o *outsider) to(name, dst string) *probe { return o.as(name, o.address, dst) }

// as does so from another's address.
func (o *outsider) as(name, src, dst string) *probe { return o.at(name, o.server, src, dst) }

// at does so with a destination MAC that is not the server's.
func (o *outsider) at(name string, mac net.HardwareAddr, src, dst string) *probe {
	return o.probe(name, func(mark []byte) [][]byte { return packets(o.mac, mac, src, dst, mark) })
}

// by sends packets with an IP option.
func (o *outsider) by(name, dst string, option ...byte) *probe {
	return o.probe(name, func(mark []byte) (frames [][]byte) {
		for _, f := range packets(o.mac, o.server, o.address, dst, mark) {
			frames = append(frames, withOptions(f, option))
		}
		return frames
	})
}

// arp asks who has an address.
func (o *outsider) arp(name, address string) *probe {
	request := arpRequest(o.mac, netip.MustParseAddr(o.address), netip.MustParseAddr(address))
	request = slices.Concat(request, net.ParseIP(address).To4()) // as padding, which no answer has
	a := o.probe(name, func(mark []byte) [][]byte { return [][]byte{request} })
	// An answer says so of the address, to the one who asked.
	a.seen = bytes.Join([][]byte{net.ParseIP(address).To4(), o.mac, net.ParseIP(o.address).To4()}, nil)
	return a
}

// sourceRoute is an IP option (RFC 791): the packet is to go on to an address.
func sourceRoute(kind byte, to string) []byte {
	return slices.Concat([]byte{kind, 7, 4}, net.ParseIP(to).To4(), []byte{0})
}

const (
	looseRoute  = 131
	strictRoute = 137
)

// withOptions gives the packet of a frame IP options, a multiple of 4 bytes.
func withOptions(frame, options []byte) []byte {
	const ip, header = 14, 20
	frame = slices.Concat(frame[:ip+header], options, frame[ip+header:])
	h := frame[ip : ip+header+len(options)]
	h[0] = 4<<4 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(frame)-ip))
	h[10], h[11] = 0, 0
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return frame
}

// tryFromOutside tries what a host of each of the three networks can.
func (s *separation) tryFromOutside() [][]string {
	s.t.Helper()
	lan := s.outsider("the network", s.Neighbours[0], "eth0", "192.168.1.11", "nic0")
	other := s.outsider("the other network", s.Router2, paper.RouterWANDevice, "192.168.2.1", "nic1")
	third := s.outsider("the host's third network", s.elsewhere, "eth0", "10.9.9.2", "other")
	probes := slices.Concat(s.fromTheNetwork(lan), []*probe{
		other.to("to its pseudo address", "192.168.2.2"),
		other.to("to segment a's address", "192.168.50.1"),
		other.to("to segment b's address, which serves it", "192.168.60.1"),
		other.to("to an alias of segment b", "192.168.60.9"),
		other.to("to the pseudo address of the first network", "192.168.1.2"),
		other.to("to the host's own address on the first network", "192.168.1.3"),
		other.to("to a host of the first network", "192.168.1.11"),
		other.as("as a host of the first network, to that network's pseudo address", "192.168.1.11", "192.168.1.2"),
		other.by("by its pseudo address and a loose source route, to segment a", "192.168.2.2", sourceRoute(looseRoute, "192.168.50.1")...),
		other.arp("ARP for its pseudo address", "192.168.2.2"),
		other.arp("ARP for segment b's address", "192.168.60.1"),
		other.arp("ARP for the pseudo address of the first network", "192.168.1.2"),
		third.to("to the host's address on it", "10.9.9.1"),
		third.to("to a host of the first network", "192.168.1.11"),
		third.to("to segment a's address", "192.168.50.1"),
		third.to("to an alias of segment a", "192.168.50.9"),
		third.to("to the front's address", "192.168.40.1"),
		third.to("to the pseudo address", "192.168.1.2"),
		third.as("as a host of the first network, to the pseudo address", "192.168.1.11", "192.168.1.2"),
		third.as("as a host of the first network, to segment a's address", "192.168.1.11", "192.168.50.1"),
		third.as("as segment b, to segment a's address", "192.168.60.1", "192.168.50.1"),
		third.by("by the host's address and a loose source route, to segment a", "10.9.9.1", sourceRoute(looseRoute, "192.168.50.1")...),
		third.by("by the host's address and a loose source route, to the pseudo address", "10.9.9.1", sourceRoute(looseRoute, "192.168.1.2")...),
		third.arp("ARP for the host's address on it", "10.9.9.1"),
		third.arp("ARP for segment a's address", "192.168.50.1"),
		third.arp("ARP for the pseudo address", "192.168.1.2"),
	})
	s.sweep(probes, lan.by("a packet to the pseudo address", "192.168.1.2", nop...),
		other.by("a packet to the other pseudo address", "192.168.2.2", nop...), third.to("a packet to the host", "10.9.9.1"))
	return rows(probes)
}

// nop is IP options that say nothing: the packet takes the slow path.
var nop = []byte{1, 1, 1, 1}

func (s *separation) fromTheNetwork(lan *outsider) []*probe {
	const pseudo, host, a, b = "192.168.1.2", "192.168.1.3", "192.168.50.1", "192.168.60.1"
	stranger := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	return []*probe{
		lan.to("to the pseudo address", pseudo),
		lan.to("to the host's own address", host),
		lan.to("to a host of the host's third network", "10.9.9.2"),
		lan.as("as a host of the host's third network, to the host's own address", "10.9.9.2", host),
		lan.to("to segment a's address", a),
		lan.to("to segment b's address", b),
		lan.to("to the front's address", "192.168.40.1"),
		lan.to("to the gateway's alias on segment a", "192.168.50.2"),
		lan.to("to another alias of segment a", "192.168.50.9"),
		lan.to("to the alias under which the front sees b", "192.168.40.253"),
		lan.to("to the other network's pseudo address", "192.168.2.2"),
		lan.to("to a host of the other network", "192.168.2.1"),
		lan.as("as segment a, to the pseudo address", a, pseudo),
		lan.as("as segment b, to the pseudo address", b, pseudo),
		lan.as("as an alias of segment a, to the pseudo address", "192.168.50.9", pseudo),
		lan.as("as an alias of segment a, to segment a's address", "192.168.50.9", a),
		lan.as("as segment b, to segment a's address", b, a),
		lan.as("as the front's alias, to segment b", "192.168.60.254", b),
		lan.as("as the pseudo address, to itself", pseudo, pseudo),
		lan.as("as the other pseudo address, to the pseudo address", "192.168.2.2", pseudo),
		lan.as("as the host's own address, to the pseudo address", host, pseudo),
		lan.as("as 127.0.0.1, to the pseudo address", "127.0.0.1", pseudo),
		lan.as("as 0.0.0.0, to the pseudo address", "0.0.0.0", pseudo),
		lan.as("as 224.0.0.1, to the pseudo address", "224.0.0.1", pseudo),
		lan.as("as 255.255.255.255, to the pseudo address", "255.255.255.255", pseudo),
		lan.as("as the network's broadcast address, to the pseudo address", "192.168.1.255", pseudo),
		lan.at("to the pseudo address, with another host's MAC", stranger, lan.address, pseudo),
		lan.at("to the pseudo address, with segment a's MAC", s.macOf("a"), lan.address, pseudo),
		lan.at("to the pseudo address, with the broadcast MAC", layers.EthernetBroadcast, lan.address, pseudo),
		lan.at("to the pseudo address, with a multicast MAC", net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, lan.address, pseudo),
		lan.at("to segment a's address, with its MAC", s.macOf("a"), lan.address, a),
		lan.at("to segment a's address, with the broadcast MAC", layers.EthernetBroadcast, lan.address, a),
		lan.at("to 255.255.255.255", layers.EthernetBroadcast, lan.address, "255.255.255.255"),
		lan.at("to segment a's broadcast address", layers.EthernetBroadcast, lan.address, "192.168.50.255"),
		lan.by("by the pseudo address and a loose source route, to segment b", pseudo, sourceRoute(looseRoute, b)...),
		lan.by("by the pseudo address and a strict source route, to the other network", pseudo, sourceRoute(strictRoute, "192.168.2.1")...),
		lan.by("by the host's own address and a loose source route, to segment a", host, sourceRoute(looseRoute, a)...),
		lan.by("by the host's own address and a strict source route, to segment b", host, sourceRoute(strictRoute, b)...),
		lan.by("by the host's own address and a loose source route, to an alias of segment a", host, sourceRoute(looseRoute, "192.168.50.9")...),
		lan.by("by the host's own address and a loose source route, to the pseudo address", host, sourceRoute(looseRoute, pseudo)...),
		lan.probe("a VLAN tag, to the pseudo address", func(mark []byte) [][]byte {
			return [][]byte{serialize(
				&layers.Ethernet{SrcMAC: lan.mac, DstMAC: lan.server, EthernetType: layers.EthernetTypeDot1Q},
				&layers.Dot1Q{VLANIdentifier: 1, Type: layers.EthernetTypeIPv4},
				gopacket.Payload(packets(lan.mac, lan.server, lan.address, pseudo, mark)[0][14:]))}
		}),
		lan.probe("IPv6, to all hosts", func(mark []byte) [][]byte {
			return [][]byte{ipv6Frame(lan.mac, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mark)}
		}),
		lan.probe("an ICMP error about the front's connection to b", func(mark []byte) [][]byte {
			return [][]byte{portUnreachable(lan.mac, lan.server, lan.address, pseudo, packets(lan.server, lan.mac, "192.168.40.1", "192.168.40.253", mark)[1][14:])}
		}),
		lan.arp("ARP for the pseudo address", pseudo),
		lan.arp("ARP for segment a's address", a),
		lan.arp("ARP for segment b's address", b),
		lan.arp("ARP for an alias of segment a", "192.168.50.9"),
		lan.arp("ARP for the other network's pseudo address", "192.168.2.2"),
		lan.arp("ARP for a host of the other network", "192.168.2.1"),
	}
}

func ipv6Frame(src, dst net.HardwareAddr, payload []byte) []byte {
	return serialize(
		&layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: layers.EthernetTypeIPv6},
		&layers.IPv6{Version: 6, NextHeader: layers.IPProtocolNoNextHeader, HopLimit: 64, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("ff02::1")},
		gopacket.Payload(payload))
}

// portUnreachable is an ICMP error that quotes a packet.
func portUnreachable(srcMAC, dstMAC net.HardwareAddr, src, dst string, quoted []byte) []byte {
	return ipFrame(srcMAC, dstMAC, src, dst, layers.IPProtocolICMPv4,
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)}, gopacket.Payload(quoted))
}
