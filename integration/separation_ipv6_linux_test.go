package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row S1: what comes in from the NIC is for the pseudo address, from a source that there can
// be, and has the right MAC. All else enters no segment.
func TestForgedFramesIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath, families: "46", a: "ports any\nclient_ip preserve"})
		own := s.capture(s.Server, "vnic-A", "vnic-B")
		conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stranger := net.HardwareAddr{2, 0, 0, 0, 0, 1}
		us := paper.NeighbourAddr6(0).String()
		for i, forged := range []struct {
			src, dst string
			mac      net.HardwareAddr
			enters   bool
		}{
			{us, "2001:db8:1::2", paper.NICMAC, true},
			{"2002:c000:204::1", "2001:db8:1::2", paper.NICMAC, true}, // 6to4 is not special
			{"fe80::77", "2001:db8:1::2", paper.NICMAC, true},         // a host on the link
			{"::ffff:10.0.0.1", "2001:db8:1::2", paper.NICMAC, false},
			{"::ffff:192.168.10.2", "2001:db8:1::2", paper.NICMAC, false},
			{us, "::ffff:192.168.1.2", paper.NICMAC, false},
			{"2001:db8:1::2", "2001:db8:1::2", paper.NICMAC, false},
			{"fd00:50::1", "2001:db8:1::2", paper.NICMAC, false},
			{"fd00:50::2", "2001:db8:1::2", paper.NICMAC, false},
			{"fd00:60::9", "2001:db8:1::2", paper.NICMAC, false},
			{"::1", "2001:db8:1::2", paper.NICMAC, false},
			{"::", "2001:db8:1::2", paper.NICMAC, false},
			{"::10.0.0.1", "2001:db8:1::2", paper.NICMAC, false},
			{"100::1", "2001:db8:1::2", paper.NICMAC, false},
			{"ff02::1", "2001:db8:1::2", paper.NICMAC, false},
			{us, "fd00:50::1", paper.NICMAC, false},
			{us, "fd00:50::2", paper.NICMAC, false},
			{us, "fd00:60::1", paper.NICMAC, false},
			{us, "ff02::1", groupMAC(allNodes6), false},
			{us, "ff02::fb", groupMAC(netip.MustParseAddr("ff02::fb")), false},
			{us, "2001:db8:1::2", groupMAC(allNodes6), false},
			{us, "2001:db8:1::2", layers.EthernetBroadcast, false},
			{us, "2001:db8:1::2", stranger, false},
		} {
			mark := fmt.Appendf(nil, "forged frame %03d", i)
			ends := ends6{mac, forged.mac, as16(forged.src), as16(forged.dst)}
			s.sendFrames(conn, ends.packets6(mark)...)
			if forged.enters {
				s.waitFor(fmt.Sprintf("%+v enters", forged), func() bool { return carries(s.frames(own), mark) })
			} else if time.Sleep(50 * time.Millisecond); carries(s.frames(own), mark) {
				t.Errorf("%+v enters a segment", forged)
			}
		}
		s.wantService6()
	})
}

// as16 is an address in 16 bytes, one of IPv4 mapped into IPv6.
func as16(address string) netip.Addr { return netip.AddrFrom16(netip.MustParseAddr(address).As16()) }

// carries tells whether one of some frames has a mark in it.
func carries(frames []netlab.Frame, mark []byte) bool {
	for _, f := range frames {
		if bytes.Contains(f.Data, mark) {
			return true
		}
	}
	return false
}

// Row S2: of what a segment says only its flows leave. What hosts say by themselves stays
// inside: NDP, MLD, DHCPv6 and multicast DNS, of its kernel and of whoever is root in it. So
// does what has another's address.
func TestChatterStaysInside(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", a: "egress any"})
		wan := s.capture(s.Router, paper.RouterWANDevice)
		ourLinkLocal := s.linkLocalNow()
		conn, mac, err := rawSocket(s.Server, "vnic-A")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		mark := []byte("said in a segment")
		own, linkLocal, nobody := netip.MustParseAddr("fd00:50::1"), netip.MustParseAddr("fe80::5201:2ff:fe03:405"), netip.IPv6Unspecified()
		if err := s.Server.Do(func() error { return sendToAllOfIPv6("vnic-A", mark) }); err != nil {
			t.Fatal(err)
		}
		option := layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac}}
		for _, src := range []netip.Addr{own, linkLocal, nobody} {
			s.sendFrames(conn,
				toGroup(mac, src, netip.MustParseAddr("ff02::2")).icmp6(layers.ICMPv6TypeRouterSolicitation, 0, 255, &layers.ICMPv6RouterSolicitation{Options: option}),
				toGroup(mac, src, allNodes6).icmp6(layers.ICMPv6TypeRouterAdvertisement, 0, 255, &layers.ICMPv6RouterAdvertisement{RouterLifetime: 9000, Options: option}),
				toGroup(mac, src, solicitedNode(paper.RouterAddr6)).solicit(paper.RouterAddr6, mac),
				toGroup(mac, src, allNodes6).icmp6(layers.ICMPv6TypeNeighborAdvertisement, 0, 255, &layers.ICMPv6NeighborAdvertisement{
					Flags: 0x20, TargetAddress: paper.PseudoAddr6.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}},
				}),
				ends6{mac, paper.RouterMAC, src, paper.RouterAddr6}.icmp6(layers.ICMPv6TypeRedirect, 0, 255, &layers.ICMPv6Redirect{
					TargetAddress: own.AsSlice(), DestinationAddress: paper.PC1Addr6.AsSlice(),
				}),
				toGroup(mac, src, netip.MustParseAddr("ff02::16")).icmp6(143, 0, 1, gopacket.Payload(mark)),
				toGroup(mac, src, netip.MustParseAddr("ff02::1:2")).udp6(546, 547, mark),
				toGroup(mac, src, netip.MustParseAddr("ff02::fb")).udp6(5353, 5353, mark),
				toGroup(mac, src, netip.MustParseAddr("ff0e::1")).udp6(5353, 5353, mark))
		}
		for _, src := range []string{"fd00:50::9", "fd00:60::1", "2001:db8:1::2", "2001:db8:10::2", "::ffff:192.168.50.1", "fe80::1", "::"} {
			s.sendFrames(conn, ends6{mac, paper.RouterMAC, as16(src), paper.RouterAddr6}.packets6(mark)...)
		}
		// This comes after all that, and leaves.
		last := []byte("the last of it")
		s.sendFrames(conn, ends6{mac, paper.RouterMAC, own, paper.RouterAddr6}.udp6(4000, 4001, last))
		s.waitFor("a datagram of the segment's own leaves", func() bool { return carries(s.frames(wan), last) })
		for _, f := range s.frames(wan) {
			if f.Outgoing || !isIPv6(f) {
				continue
			}
			e := endsOf6(f)
			if carries([]netlab.Frame{f}, mark) || bytes.Contains(f.Data, mac) || !bytes.Equal(e.srcMAC, paper.NICMAC) ||
				e.src != paper.PseudoAddr6 && e.src != ourLinkLocal && !e.src.IsUnspecified() {
				t.Errorf("this left: %s", gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default))
			}
		}
	})
}

// linkLocalNow is the bridge's link-local address. It comes to light when the NIC's cable is
// plugged in anew.
func (s *scene) linkLocalNow() netip.Addr {
	s.t.Helper()
	wan := s.capture(s.Router, paper.RouterWANDevice)
	defer wan.Close()
	s.ip(s.Server, "link set nic0 down")
	s.waitFor("the bridge sees the NIC down", func() bool { return !s.status().Bridges["lan"].Up })
	s.ip(s.Server, "link set nic0 up")
	own := s.linkLocal(wan)
	s.wantService6()
	return own
}

// Rows A1 and S4: nobody reaches a segment, or a daemon that listens on all addresses, by
// another interface of the server or by the NIC past the pseudo address, though the server's
// kernel forwards.
func TestNoWayRoundIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		other, err := s.NewHost("other")
		if err != nil {
			t.Fatal(err)
		}
		err = s.Link(
			netlab.End{Host: s.Server, Device: "nic1", V6: []netip.Prefix{netip.MustParsePrefix("2001:db8:99::1/64")}},
			netlab.End{Host: other, Device: "eth0", V6: []netip.Prefix{netip.MustParsePrefix("2001:db8:99::2/64")}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"all/forwarding", "all/proxy_ndp", "nic1/proxy_ndp"} {
			if err := s.Server.Sysctl("net/ipv6/conf/"+name, "1"); err != nil {
				t.Fatal(err)
			}
		}
		s.start(caddyfile{datapath: datapath, families: "46"})
		s.listen(s.Server, "[::]:7777", say("a daemon"))
		if got, err := hear(other, "[2001:db8:99::1]:7777", time.Second); err != nil || got != "a daemon" {
			t.Fatalf("by the second NIC the daemon says %q (%v)", got, err)
		}
		neighbour := s.Neighbours[0]
		for _, network := range []string{"fd00:50::/64", "fd00:60::/64"} {
			s.ip(other, "-6 route add "+network+" via 2001:db8:99::1")
			s.ip(neighbour, "-6 route add "+network+" via 2001:db8:1::2")
		}
		s.ip(other, "-6 route add 2001:db8:1::2 via 2001:db8:99::1")
		for _, h := range []*netlab.Host{other, neighbour} {
			for _, address := range []string{"[fd00:50::1]:80", "[fd00:50::1]:7777", "[fd00:60::1]:80"} {
				s.wantSilence(h, address)
			}
		}
		for _, port := range []int{80, 7777} {
			s.wantSilence(other, fmt.Sprintf("[2001:db8:1::2]:%d", port))
		}
		s.wantRefused("[2001:db8:1::2]:7777")
		s.wantService6()
		nic1 := s.capture(other, "eth0")
		conn, mac, err := rawSocket(other, "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, target := range []string{"2001:db8:1::2", "fd00:50::1", "fd00:50::2", "fd00:60::1"} {
			target := netip.MustParseAddr(target)
			s.sendFrames(conn, toGroup(mac, netip.MustParseAddr("2001:db8:99::2"), solicitedNode(target)).solicit(target, mac))
		}
		for _, a := range advertisements(conn, mac, 500*time.Millisecond) {
			if a.target != netip.MustParseAddr("2001:db8:99::1") && !a.target.IsLinkLocalUnicast() {
				t.Errorf("on the second NIC %s is said to be at %s", a.target, a.mac)
			}
		}
		for _, f := range s.frames(nic1) {
			if isIPv6(f) && !f.Outgoing && (strings.HasPrefix(endsOf6(f).src.String(), "fd00:") || endsOf6(f).src == paper.PseudoAddr6) {
				t.Errorf("by the second NIC came %x", f.Data)
			}
		}
	})
}
