package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A1: Neighbor Solicitations for the pseudo address and for the bridge's link-local
// address are answered once, with the NIC's MAC: for a host that looks for it, for one that
// asks whether it is still there, and for one that wants the address for itself. For a
// segment's addresses nothing is answered, by the bridge or by the host's kernel.
func TestNeighbourSolicitations(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		wan := s.capture(s.Router, paper.RouterWANDevice)
		s.start(caddyfile{datapath: datapath, families: "46"})
		neighbour := s.Neighbours[0]
		conn, mac, err := rawSocket(neighbour, "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		us, nobody := paper.NeighbourAddr6(0), netip.IPv6Unspecified()
		own := s.linkLocal(wan)
		for _, target := range []netip.Addr{paper.PseudoAddr6, own} {
			for _, asked := range []struct {
				name      string
				frame     []byte
				to        netip.Addr
				toMAC     net.HardwareAddr
				solicited bool
			}{
				{"who has it", toGroup(mac, us, solicitedNode(target)).solicit(target, mac), us, mac, true},
				{"is it there", ends6{mac, paper.NICMAC, us, target}.solicit(target, mac), us, mac, true},
				{"is it there, without a MAC", ends6{mac, paper.NICMAC, us, target}.solicit(target, nil), us, mac, true},
				{"may I have it", toGroup(mac, nobody, solicitedNode(target)).solicit(target, nil), allNodes6, groupMAC(allNodes6), false},
			} {
				s.sendFrames(conn, asked.frame)
				var about []advertisement
				for _, a := range advertisements(conn, mac, 300*time.Millisecond) {
					if a.target == target && (a.dst != allNodes6 || !asked.solicited) { // else of the start
						about = append(about, a)
					}
				}
				if len(about) == 0 || asked.solicited && len(about) > 1 {
					t.Errorf("%s: %s has %d answers, want one", target, asked.name, len(about))
					continue
				}
				a := about[0]
				if a.src != target || a.dst != asked.to || !bytes.Equal(a.dstMAC, asked.toMAC) || !bytes.Equal(a.srcMAC, paper.NICMAC) ||
					!bytes.Equal(a.mac, paper.NICMAC) || a.router || !a.override || a.solicited != asked.solicited || a.hopLimit != 255 {
					t.Errorf("%s: %s is answered by %+v", target, asked.name, a)
				}
			}
		}
		for _, other := range []string{"fd00:50::1", "fd00:50::2", "fd00:60::1", "192.168.50.1"} {
			target := netip.AddrFrom16(netip.MustParseAddr(other).As16())
			s.sendFrames(conn, toGroup(mac, us, solicitedNode(target)).solicit(target, mac), ends6{mac, paper.NICMAC, us, target}.solicit(target, mac))
		}
		for _, a := range advertisements(conn, mac, time.Second) {
			if a.target != paper.PseudoAddr6 && a.target != own {
				t.Errorf("somebody says that %s is at %s", a.target, a.mac)
			}
		}
	})
}

// linkLocal is the bridge's link-local address, as somebody hears it on its link: the source
// of what comes from the NIC's MAC.
func (s *scene) linkLocal(c *netlab.Capture) (own netip.Addr) {
	s.t.Helper()
	s.waitFor("something from the bridge's link-local address", func() bool {
		for _, f := range s.frames(c) {
			if !isIPv6(f) {
				continue
			}
			if e := endsOf6(f); bytes.Equal(e.srcMAC, paper.NICMAC) && e.src.IsLinkLocalUnicast() {
				own = e.src
			}
		}
		return own.IsValid()
	})
	return own
}

// Rows A1 and A7: the kernel of a router and that of a host on the link resolve the pseudo
// address, and confirm it by unicast probes for as long as it serves. The bridge resolves
// them, by either address of the router.
func TestKernelsAsNeighbours(t *testing.T) {
	t.Parallel()
	for _, gateway := range []netip.Addr{paper.RouterAddr6, paper.RouterLinkLocal} {
		t.Run(gateway.String(), func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
				s.start(caddyfile{datapath: datapath, families: "46", gateway6: gateway.String()})
				for name, h := range map[string]*netlab.Host{"PC1": s.PC1, "the neighbour": s.Neighbours[0], "the router": s.Router} {
					if got := s.getFrom(h, "http://"+pseudo6+"/"); got != "a" {
						t.Errorf("%s got %q", name, got)
					}
				}
				for device, h := range map[string]*netlab.Host{paper.RouterWANDevice: s.Router, "eth0": s.Neighbours[0]} {
					s.wantReachable(h, device)
					s.ip(h, "-6 neighbour replace 2001:db8:1::2 lladdr "+paper.NICMAC.String()+" dev "+device+" nud probe")
					s.wantReachable(h, device)
				}
				var found bool
				for _, g := range s.status().Bridges["lan"].Gateways {
					found = found || g.Address == gateway && bytes.Equal(g.MAC[:], paper.RouterMAC)
				}
				if !found {
					t.Errorf("the gateways are %+v, want %s at %s", s.status().Bridges["lan"].Gateways, gateway, paper.RouterMAC)
				}
			})
		})
	}
}

// wantReachable waits until a host's kernel knows the pseudo address at the NIC's MAC.
func (s *scene) wantReachable(h *netlab.Host, device string) {
	s.t.Helper()
	want := "lladdr " + paper.NICMAC.String() + " "
	s.waitFor("the pseudo address is reachable for "+h.Name(), func() bool {
		known := s.ip(h, "-6 neighbour show to 2001:db8:1::2 dev "+device)
		return strings.Contains(known, want) && strings.Contains(known, "REACHABLE")
	})
}

// Row A2: a neighbour that has the pseudo address fails the start, which names its MAC. One
// that wants it while the bridge has it is told so and does without.
func TestPseudoAddressInUseIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		neighbour := s.Neighbours[0]
		link, err := neighbour.Netlink().LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		mac := link.Attrs().HardwareAddr.String()
		s.ip(neighbour, "address add 2001:db8:1::2/64 dev eth0")
		before := s.snapshot()
		config := caddyfile{datapath: datapath, families: "46"}.String()
		if err := s.tryStart(config); err == nil || !strings.Contains(err.Error(), mac) || !strings.Contains(err.Error(), "2001:db8:1::2") {
			t.Fatalf("the start says %v, want an error that names 2001:db8:1::2 and %s", err, mac)
		}
		s.wantSame("after the start has failed", before)
		s.ip(neighbour, "address delete 2001:db8:1::2/64 dev eth0")
		if err := s.tryStart(config); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"accept_dad", "dad_transmits"} {
			if err := neighbour.Sysctl("net/ipv6/conf/eth0/"+name, "1"); err != nil {
				t.Fatal(err)
			}
		}
		s.ip(neighbour, "address add 2001:db8:1::2/64 dev eth0")
		s.waitFor("the neighbour gives the address up", func() bool {
			return strings.Contains(s.ip(neighbour, "-6 address show dev eth0 to 2001:db8:1::2"), " dadfailed ")
		})
		s.wantService6()
	})
}

// wantService6 waits until PC1 is served by IPv6.
func (s *scene) wantService6() {
	s.t.Helper()
	s.waitFor("service by IPv6", func() bool { return s.connects(pseudo6 + ":80") })
	if got := s.get("http://" + pseudo6 + "/"); got != "a" {
		s.t.Errorf("PC1 got %q", got)
	}
	s.wantPing(s.PC1, paper.PseudoAddr6)
}

// Row A2: the pseudo address is announced at the start, three times, and when the NIC comes
// back up, and when its MAC changes. The router follows, and service goes on.
func TestAnnouncementsIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		wan := s.capture(s.Router, paper.RouterWANDevice)
		announced := func(mac net.HardwareAddr, from int) (times int) {
			for _, f := range s.frames(wan)[from:] {
				a, ok := readAdvertisement(f.Data)
				if ok && a.target == paper.PseudoAddr6 && a.src == a.target && a.dst == allNodes6 && bytes.Equal(a.mac, mac) && a.override && !a.solicited {
					times++
				}
			}
			return times
		}
		wait := func(when string, mac net.HardwareAddr, from, times int) {
			t.Helper()
			s.waitFor(fmt.Sprintf("%d announcements from %s %s", times, mac, when), func() bool { return announced(mac, from) >= times })
			s.wantService6()
		}
		s.start(caddyfile{datapath: datapath, families: "46"})
		wait("at the start", paper.NICMAC, 0, 3)
		if n := announced(paper.NICMAC, 0); n != 3 {
			t.Errorf("%d announcements at the start, want 3", n)
		}

		seen := len(s.frames(wan))
		s.ip(s.Server, "link set nic0 down")
		s.waitFor("the bridge sees the NIC down", func() bool { return !s.status().Bridges["lan"].Up })
		s.ip(s.Server, "link set nic0 up")
		wait("when the NIC is up again", paper.NICMAC, seen, 1)

		seen = len(s.frames(wan))
		other := net.HardwareAddr{0xb0, 0xc7, 0x45, 0x00, 0x00, 0x01}
		s.ip(s.Server, "link set nic0 address "+other.String())
		wait("when the NIC has another MAC", other, seen, 1)
	})
}

// Rows A10 and S6: a stranger's Router Advertisements, redirects and Neighbor Advertisements
// change nothing: they enter no segment, and what is served goes the way that it went.
func TestNeighboursAreNotBelieved(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath, families: "46", a: "ports any\negress any"})
		s.wantService6()
		conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		vnic := s.capture(s.Server, "vnic-A")
		router, us := paper.RouterAddr6, netip.MustParseAddr("fe80::bad")
		advertise := &layers.ICMPv6NeighborAdvertisement{
			Flags: 0x20, TargetAddress: router.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}},
		}
		prefix := append([]byte{64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8:bad::").AsSlice()...)
		s.sendFrames(conn,
			toGroup(mac, us, allNodes6).icmp6(layers.ICMPv6TypeRouterAdvertisement, 0, 255, &layers.ICMPv6RouterAdvertisement{
				HopLimit: 64, RouterLifetime: 1800, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptPrefixInfo, Data: prefix}},
			}),
			ends6{mac, paper.NICMAC, paper.RouterLinkLocal, paper.PseudoAddr6}.icmp6(layers.ICMPv6TypeRedirect, 0, 255, &layers.ICMPv6Redirect{
				TargetAddress: us.AsSlice(), DestinationAddress: paper.PC1Addr6.AsSlice(),
			}),
			ends6{mac, paper.NICMAC, router, paper.PseudoAddr6}.icmp6(layers.ICMPv6TypeNeighborAdvertisement, 0, 64, advertise), // from beyond a router
			toGroup(mac, router, allNodes6).icmp6(layers.ICMPv6TypeNeighborAdvertisement, 0, 254, advertise))
		s.wantService6()
		s.listen(s.PC1, "[::]:22", sayPeer)
		if got, err := s.hearFrom(server6+":0", "["+paper.PC1Addr6.String()+"]:22"); err != nil || got != paper.PseudoAddr6.String() {
			t.Errorf("PC1 is called by %q (%v), want the pseudo address", got, err)
		}
		for _, f := range s.frames(vnic) {
			if isIPv6(f) && !f.Outgoing && endsOf6(f).dst.IsMulticast() {
				t.Errorf("segment a got %x", f.Data)
			}
		}
		if route := s.ip(s.Server, "-6 route show table all"); strings.Contains(route, "bad") {
			t.Errorf("the server took a route from a stranger:\n%s", route)
		}
	})
}
