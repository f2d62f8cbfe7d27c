package integration_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// target is what the intruder in segment a tries to reach.
type target struct {
	name, place string // as in watchedDevices
	address     string
	from        string // the only address to try from; default: see sources
}

func (s *separation) targets() []target {
	segments := s.status().Segments
	return []target{
		{name: "segment b's address", place: "segment b", address: "192.168.60.1"},
		{name: "the alias under which the front sees b", place: "segment b", address: segments["front"].Peers["b"][0].String()},
		{name: "the alias under which b sees the front", place: "the front", address: segments["b"].Peers["front"][0].String()},
		{name: "the alias under which a sees the front", place: "the front", address: segments["a"].Peers["front"][0].String()},
		{name: "the front's address", place: "the front", address: "192.168.40.1"},
		{name: "the pseudo address", place: "the front", address: "192.168.1.2"},
		{name: "the host's own address", place: "the host", address: "192.168.1.3"},
		{name: "Caddy's admin API", place: "the host", address: "127.0.0.1:2019"},
		{name: "a host on the NIC's network", place: "the network", address: "192.168.1.11"},
		{name: "a host beyond the router", place: "the network", address: "192.168.10.2"},
		{name: "a host on the host's third network", place: "the host's third network", address: "10.9.9.2"},
		{name: "the other network's pseudo address", place: "segment b", address: "192.168.2.2"},
		{name: "the other network's router", place: "the other network", address: "192.168.2.1"},
		{name: "the router by its own address", place: "the network", address: "192.168.1.1"},
		{name: "the router by its alias (egress gateway)", place: "the network", address: "192.168.50.2"},
		{name: "the router by its alias, bound to segment b's address", place: "the network", address: "192.168.50.2", from: "192.168.60.1"},
		{name: "the other router by b's alias, bound to segment b's address", place: "the other network", address: "192.168.60.2", from: "192.168.60.1"},
	}
}

// sources are what a process in segment a binds itself to: no address in
// particular, the segment's, and the device.
var sources = []string{"", "192.168.50.1", "vnic-A"}

// tryConnections tries all that a process can, with routes of its own, and in a
// namespace of its own with b's address on a's device: datagrams under each setting,
// and TCP under the last one.
func (s *separation) tryConnections() (results [][]string) {
	s.t.Helper()
	if s.apart() {
		for _, route := range []string{"default via 192.168.50.2 dev vnic-A", "192.168.60.0/24 dev vnic-A", "192.168.40.0/24 dev vnic-A"} {
			s.ip(s.a, "route add "+route)
		}
		s.ip(s.a, "address add 192.168.60.1/32 dev vnic-A")
	}
	targets := s.targets()
	var probes []*probe
	for _, to := range targets {
		probes = append(probes, newProbe("", to.name, entry{"vnic-A", true}, func(mark []byte) {
			for _, source := range to.sources() {
				s.sendDatagram(source, to.address, mark)
			}
		}))
	}
	s.sweep(probes, newProbe("", "a datagram to the gateway's alias", entry{"vnic-A", true}, func(mark []byte) {
		s.sendDatagram("192.168.50.1", "192.168.50.2", mark)
	}))
	results = make([][]string, len(targets))
	var tries sync.WaitGroup
	for i, to := range targets {
		tries.Go(func() {
			results[i] = []string{to.name, "not reached"}
			if len(probes[i].places[to.place]) > 0 || s.connects(to) {
				results[i][1] = "reached"
			}
			delete(probes[i].places, to.place)
			if s.apart() && len(probes[i].places) > 0 {
				s.t.Errorf("a datagram for %s got to %s", to.name, probes[i].result())
			}
		})
	}
	tries.Wait()
	return results
}

func (to target) sources() []string {
	if to.from != "" {
		return []string{to.from}
	}
	return sources
}

// connects tells whether a process in segment a gets a connection to a target.
func (s *separation) connects(to target) bool {
	address := to.address
	if !strings.Contains(address, ":") {
		address += ":80"
	}
	reached := make([]bool, len(sources))
	var tries sync.WaitGroup
	for i, source := range to.sources() {
		tries.Go(func() {
			dialer := net.Dialer{Timeout: time.Second, FallbackDelay: -1}
			if from, err := netip.ParseAddr(source); err == nil {
				dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
			} else if source != "" {
				dialer.Control = func(_, _ string, socket syscall.RawConn) error { return bindToDevice(socket, source) }
			}
			err := s.a.Do(func() error {
				conn, err := dialer.DialContext(s.t.Context(), "tcp4", address)
				if err == nil {
					conn.Close()
				}
				return err
			})
			reached[i] = err == nil
		})
	}
	tries.Wait()
	return slices.Contains(reached, true)
}

func bindToDevice(socket syscall.RawConn, device string) (err error) {
	failed := socket.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) })
	return errors.Join(failed, err)
}

// sendDatagram sends a datagram to port 80 from a process of segment a, if its kernel
// lets it.
func (s *separation) sendDatagram(source, address string, data []byte) {
	s.t.Helper()
	to, err := netip.ParseAddr(strings.TrimSuffix(address, ":2019"))
	if err != nil {
		s.t.Fatal(err)
	}
	err = s.a.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if from, err := netip.ParseAddr(source); err == nil {
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
				return err
			}
		} else if source != "" {
			if err := unix.BindToDevice(fd, source); err != nil {
				return err
			}
		}
		// No route, or nobody there: that is for the intruder to bear.
		_ = unix.Sendto(fd, data, 0, &unix.SockaddrInet4{Addr: to.As4(), Port: 80})
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// tryFrames puts frames on segment a's VNIC that no kernel would.
func (s *separation) tryFrames() [][]string {
	s.t.Helper()
	conn, mac, err := rawSocket(s.a, "vnic-A")
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	vnic := entry{"vnic-A", true}
	var probes []*probe
	for _, f := range s.forgedFrames(mac) {
		probes = append(probes, newProbe("", f.name, vnic, func(mark []byte) { s.sendFrames(conn, f.frames(mark)...) }))
	}
	probes = append(probes, newProbe("", "what a host says by itself: IGMP, multicast DNS, IPv6", vnic, s.chatter))
	probes[len(probes)-1].seen = chatterGroup.AsSlice()
	s.sweep(probes, newProbe("", "a packet to the gateway's alias", vnic, func(mark []byte) {
		var frames [][]byte
		for _, f := range packets(mac, paper.RouterMAC, "192.168.50.1", "192.168.50.2", mark) {
			frames = append(frames, withOptions(f, nop))
		}
		s.sendFrames(conn, frames...)
	}))
	return rows(probes)
}

// chatterGroup is what segment a reports that it listens to.
var chatterGroup = netip.MustParseAddr("239.50.1.77")

// chatter has segment a's kernel say what a desktop's would: which groups it is in,
// and multicast DNS, over IPv4 and IPv6.
func (s *separation) chatter(mark []byte) {
	s.t.Helper()
	err := s.a.Do(func() error {
		vnic, err := net.InterfaceByName("vnic-A")
		if err != nil {
			return err
		}
		conn, err := net.ListenPacket("udp4", "192.168.50.1:0")
		if err != nil {
			return err
		}
		defer conn.Close()
		p := ipv4.NewPacketConn(conn)
		if err := p.JoinGroup(vnic, &net.UDPAddr{IP: chatterGroup.AsSlice()}); err != nil {
			return err
		}
		if err := p.SetMulticastInterface(vnic); err != nil {
			return err
		}
		_, err = p.WriteTo(mark, nil, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.chatterIPv6(mark)
}

// chatterIPv6 speaks IPv6, for which it must be switched on against what the bridge
// has set, and may set again meanwhile.
func (s *separation) chatterIPv6(mark []byte) {
	s.t.Helper()
	s.waitFor("IPv6 on vnic-A", func() bool {
		if err := s.a.Sysctl("net/ipv6/conf/vnic-A/disable_ipv6", "0"); err != nil {
			s.t.Fatal(err)
		}
		_, err := s.a.Run(s.t.Context(), "ip", "-6", "address", "replace", "fe80::50:1/64", "dev", "vnic-A", "nodad")
		return err == nil && s.a.Do(func() error { return sendToAllOfIPv6("vnic-A", mark) }) == nil
	})
}

// sendToAllOfIPv6 sends multicast DNS. Package net is not for this: it remembers the
// devices' indexes in another namespace.
func sendToAllOfIPv6(device string, data []byte) error {
	vnic, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	everybody := netip.MustParseAddr("ff02::fb").As16()
	return unix.Sendto(fd, data, 0, &unix.SockaddrInet6{Addr: everybody, ZoneId: uint32(vnic.Index), Port: 5353})
}

// forged is one way to forge frames; each carries a mark.
type forged struct {
	name   string
	frames func(mark []byte) [][]byte
}

func (s *separation) forgedFrames(mac net.HardwareAddr) []forged {
	segments, macB, macFront := s.status().Segments, s.macOf("b"), s.macOf("front")
	alias := func(segment, peer string) string { return segments[segment].Peers[peer][0].String() }
	// to is a datagram, a SYN, a SYN-ACK, a TCP segment of no connection and an
	// echo request.
	to := func(dstMAC net.HardwareAddr, src, dst string) func([]byte) [][]byte {
		return func(mark []byte) [][]byte { return packets(mac, dstMAC, src, dst, mark) }
	}
	routed := func(dst string, option []byte) func([]byte) [][]byte {
		return func(mark []byte) (frames [][]byte) {
			for _, f := range packets(mac, paper.RouterMAC, "192.168.50.1", dst, mark) {
				frames = append(frames, withOptions(f, option))
			}
			return frames
		}
	}
	return []forged{
		{"to the gateway's alias (egress gateway)", to(paper.RouterMAC, "192.168.50.1", "192.168.50.2")},
		{"to segment b's address and MAC", to(macB, "192.168.50.1", "192.168.60.1")},
		{"to the alias under which the front sees b", to(macB, "192.168.50.1", alias("front", "b"))},
		{"to the alias under which a sees the front", to(macFront, "192.168.50.1", alias("a", "front"))},
		{"to the front's address and MAC", to(macFront, "192.168.50.1", "192.168.40.1")},
		{"to the pseudo address and the NIC's MAC", to(paper.NICMAC, "192.168.50.1", "192.168.1.2")},
		{"to the other network's pseudo address and MAC", to(paper.NIC2MAC, "192.168.50.1", "192.168.2.2")},
		{"to a host on the NIC's network", to(paper.RouterMAC, "192.168.50.1", "192.168.1.11")},
		{"to the other network's router", to(paper.Router2MAC, "192.168.50.1", "192.168.2.1")},
		{"to a host on the host's third network", to(paper.RouterMAC, "192.168.50.1", "10.9.9.2")},
		{"to the host's own address and the NIC's MAC", to(paper.NICMAC, "192.168.50.1", "192.168.1.3")},
		{"to an alias of nobody", to(paper.RouterMAC, "192.168.50.1", "192.168.50.77")},
		{"as segment b, to the gateway's alias", to(paper.RouterMAC, "192.168.60.1", "192.168.60.2")},
		{"as segment b, to the front", to(macFront, "192.168.60.1", alias("b", "front"))},
		{"as the front, to segment b", to(macB, "192.168.40.1", alias("front", "b"))},
		{"as the front's alias, to segment b", to(macB, alias("b", "front"), "192.168.60.1")},
		{"as the pseudo address, to the router", to(paper.RouterMAC, "192.168.1.2", "192.168.1.1")},
		{"as the host's own address, to the router", to(paper.RouterMAC, "192.168.1.3", "192.168.1.1")},
		{"as a client outside, to the front", to(macFront, "192.168.10.2", "192.168.40.1")},
		{"as another host of segment a, to the gateway's alias", to(paper.RouterMAC, "192.168.50.9", "192.168.50.2")},
		{"by the gateway's alias and a loose source route, to segment b", routed("192.168.50.2", sourceRoute(looseRoute, "192.168.60.1"))},
		{"by its own address and a loose source route, to segment b", routed("192.168.50.1", sourceRoute(looseRoute, "192.168.60.1"))},
		{"broadcast and multicast", func(mark []byte) [][]byte {
			return append(packets(mac, layers.EthernetBroadcast, "192.168.50.1", "255.255.255.255", mark),
				packets(mac, net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, "192.168.50.1", "224.0.0.1", mark)...)
		}},
		{"an ICMP error about the front's connection to b", func(mark []byte) [][]byte {
			quoted := packets(macFront, mac, "192.168.40.1", alias("front", "b"), mark)[1][14:]
			return [][]byte{portUnreachable(mac, macFront, "192.168.50.1", alias("a", "front"), quoted)}
		}},
		{"ARP in the name of the front's alias", func(mark []byte) [][]byte {
			return [][]byte{append(arpRequest(mac, netip.MustParseAddr(alias("b", "front")), netip.MustParseAddr("192.168.60.1")), mark...)}
		}},
		{"IPv6", func(mark []byte) [][]byte { return [][]byte{ipv6Frame(mac, macB, mark)} }},
		{"a VLAN tag before it", func(mark []byte) [][]byte {
			return [][]byte{serialize(
				&layers.Ethernet{SrcMAC: mac, DstMAC: macB, EthernetType: layers.EthernetTypeDot1Q},
				&layers.Dot1Q{VLANIdentifier: 1, Type: layers.EthernetTypeIPv4}, gopacket.Payload(packets(mac, macB, "192.168.50.1", "192.168.60.1", mark)[0][14:]))}
		}},
	}
}

// packets are a datagram, a TCP SYN, an answer to one, a segment of no connection,
// and an echo request.
func packets(srcMAC, dstMAC net.HardwareAddr, src, dst string, payload []byte) (frames [][]byte) {
	from, to := net.ParseIP(src).To4(), net.ParseIP(dst).To4()
	network := &layers.IPv4{SrcIP: from, DstIP: to, Protocol: layers.IPProtocolTCP}
	udp := &layers.UDP{SrcPort: 80, DstPort: 80}
	udp.SetNetworkLayerForChecksum(network)
	frames = append(frames, ipFrame(srcMAC, dstMAC, src, dst, layers.IPProtocolUDP, udp, gopacket.Payload(payload)))
	for _, tcp := range []*layers.TCP{{SYN: true}, {SYN: true, ACK: true}, {ACK: true, PSH: true}} {
		tcp.SrcPort, tcp.DstPort, tcp.Window = 80, 80, 1000
		tcp.SetNetworkLayerForChecksum(network)
		frames = append(frames, ipFrame(srcMAC, dstMAC, src, dst, layers.IPProtocolTCP, tcp, gopacket.Payload(payload)))
	}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 80}
	return append(frames, ipFrame(srcMAC, dstMAC, src, dst, layers.IPProtocolICMPv4, echo, gopacket.Payload(payload)))
}

// ipFrame is an IPv4 packet in an Ethernet frame.
func ipFrame(srcMAC, dstMAC net.HardwareAddr, src, dst string, protocol layers.IPProtocol, content ...gopacket.SerializableLayer) []byte {
	return serialize(append([]gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()},
	}, content...)...)
}
