package integration_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows A0, A5, A6, F1, F2 and F3: pages of Caddy and of nginx, datagrams and pings, from
// behind the router, from the router and from the link, to a segment that translates its
// clients and to one that preserves them, in a system of both families and of IPv6 alone.
func TestIPv6(t *testing.T) {
	t.Parallel()
	for _, families := range []string{"46", "6"} {
		for _, mode := range []string{"translate", "preserve"} {
			t.Run(families+" "+mode, func(t *testing.T) {
				t.Parallel()
				onEachDataPath(t, func(t *testing.T, datapath string) {
					s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
					config := preserving(datapath)
					config.families, config.a = families, "ports any\nclient_ip "+mode
					s.start(config)
					s.startNginx(server6+":8080", "$remote_addr")
					s.echoPeers(server6 + ":5000")
					for _, client := range []struct {
						host    *netlab.Host
						address netip.Addr
						alias   func(netip.Addr) bool
					}{
						{s.PC1, paper.PC1Addr6, isDerivedAlias},
						{s.Neighbours[0], paper.NeighbourAddr6(0), isDerivedAlias},
						{s.Router, paper.RouterAddr6, func(a netip.Addr) bool { return a == netip.MustParseAddr("fd00:50::2") }},
					} {
						if mode == "preserve" {
							client.alias = func(a netip.Addr) bool { return a == client.address }
						}
						s.wantSeen6(client.host, client.address, client.alias)
					}
					if families == "46" {
						if got := s.get("http://192.168.1.2/"); got != paper.PC1Addr.String() {
							t.Errorf("by IPv4 Caddy sees %q", got)
						}
						s.wantPing(s.PC1, paper.PseudoAddr)
					}
				})
			})
		}
	}
}

// isDerivedAlias tells whether an address is a derived alias of segment a.
func isDerivedAlias(a netip.Addr) bool {
	return netip.MustParsePrefix("fd00:50::/64").Contains(a) && a.As16()[8]>>6 == 2
}

// wantSeen6 checks under which address Caddy, nginx and a UDP server see a client, and that
// it is answered. A client has one alias, whatever it asks for.
func (s *scene) wantSeen6(client *netlab.Host, address netip.Addr, alias func(netip.Addr) bool) {
	s.t.Helper()
	// curl, because it is a client like others. Caddy knows the client itself, whatever its alias.
	if got := s.run(client, "curl", "-6", "-sS", "--max-time", "5", "http://"+pseudo6+"/"); got != address.String() {
		s.t.Errorf("Caddy sees %s as %q", address, got)
	}
	seen := s.getFrom(client, "http://"+pseudo6+":8080/")
	if a, err := netip.ParseAddr(seen); err != nil || !alias(a) {
		s.t.Errorf("nginx sees %s as %q", address, seen)
	}
	conn := s.packetConn(client, netip.AddrPortFrom(address, 7000).String())
	defer conn.Close()
	send(s.t, conn, pseudo6+":5000", "hello")
	if got, from := receive(s.t, conn); got != "hello ["+seen+"]:7000" || from != pseudo6+":5000" {
		s.t.Errorf("a UDP server sees %s as, and answers, %q by %s; nginx sees %s", address, got, from, seen)
	}
	s.wantPing(client, paper.PseudoAddr6)
}

// Rows F2, F3 and F7: pings of all sizes, as they come and in fragments, from outside, from a
// segment to its gateway, and with the hop limit that the sender has set.
func TestPingsIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46"})
		vnic := s.capture(s.Server, "vnic-A")
		for _, args := range []string{"-s 0", "-s 56", "-s 1400 -M do", "-s 1452 -M do", "-s 1453", "-s 4000", "-s 30000", "-t 7"} {
			for from, to := range map[*netlab.Host]string{s.PC1: "2001:db8:1::2", s.Server: "fd00:50::2"} {
				args := append(strings.Fields("-6 -n -c 2 -i 0.3 -W 5 "+args), to)
				if out, err := from.Run(t.Context(), "ping", args...); err != nil || !strings.Contains(string(out), " 2 received") || strings.Contains(string(out), "DUP") {
					t.Errorf("ping %s: %v\n%s", strings.Join(args, " "), err, out)
				}
			}
		}
		if out, err := s.PC1.Run(t.Context(), "ping", "-6", "-c", "1", "-s", "1453", "-M", "do", "2001:db8:1::2"); err == nil {
			t.Errorf("what does not fit the link was sent:\n%s", out)
		}
		hopLimits := make(map[uint8]bool)
		for _, f := range s.frames(vnic) {
			if e, ok := netlab.ParseEcho(f); ok && e.Request && e.Dst == netip.MustParseAddr("fd00:50::1") {
				hopLimits[e.TTL] = true
				if !e.ChecksumsValid {
					t.Errorf("a request has a wrong checksum: %+v", e)
				}
			}
		}
		if !hopLimits[63] || !hopLimits[6] || len(hopLimits) != 2 { // 64 and 7, less one at the router
			t.Errorf("requests come with the hop limits %v, want 63 and 6", hopLimits)
		}
	})
}

// Rows F2, F3, F8 and F9: files both ways, with and without offloads, and datagrams of all
// sizes. The programs carry what is no fragment.
func TestBulkTrafficIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		for _, noOffloads := range []bool{false, true} {
			t.Run(fmt.Sprintf("offloads %t", !noOffloads), func(t *testing.T) {
				s := newScene(t, paper.NetworkOptions{IPv6: true, NoOffloads: noOffloads})
				s.start(caddyfile{datapath: datapath, families: "46", a: "ports any"})
				if err := s.Server.SetOffloads("vnic-A", !noOffloads); err != nil {
					t.Fatal(err)
				}
				s.serveFiles(server6 + ":40000")
				s.wantDownloadFrom(pseudo6, 20*mib)
				s.listen(s.Server, server6+":9000", echo)
				slow := s.slowPackets()
				s.wantEchoed(pseudo6+":9000", 8*mib)
				if more := s.slowPackets() - slow; more > 100 {
					t.Errorf("%d packets took the slow path", more)
				}
				s.echoUDP(s.Server, server6+":5000")
				conn := s.packetConn(s.PC1, "["+paper.PC1Addr6.String()+"]:7000")
				for size := 1; size < 60000; size = size*5/3 + 1 {
					s.wantDatagram(conn, pseudo6+":5000", size)
				}
			})
		}
	})
}

// wantDatagram sends a datagram that must come back.
func (s *scene) wantDatagram(conn net.PacketConn, to string, size int) {
	s.t.Helper()
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * size)
	}
	if _, err := conn.WriteTo(sent, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
		s.t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	back := make([]byte, 1<<16)
	if n, _, err := conn.ReadFrom(back); err != nil || !slices.Equal(back[:n], sent) {
		s.t.Errorf("of a datagram of %d bytes %d come back (%v), or others", size, n, err)
	}
}

// Rows F1 and A0: HTTP/3, HTTP/2 and HTTP/1.1 by IPv6 to a segment's site.
func TestHTTPVersionsIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", sites: `
https://www.example.com {
	tls internal
	bind vnic/a
	respond "{http.request.proto} {remote_host}"
}
`})
		opts := netlab.WebOptions{Address: paper.PseudoAddr6}
		s.waitFor("the internal issuer", func() (ok bool) {
			var err error
			opts.Roots, err = s.caddy.Roots()
			return err == nil
		})
		for _, opts.Protocol = range []string{netlab.HTTP1, netlab.HTTP2, netlab.HTTP3} {
			client, err := s.PC1.WebClient(opts)
			if err != nil {
				t.Fatal(err)
			}
			s.waitFor("the site's certificate", func() bool {
				resp, err := client.Head("https://www.example.com/")
				if err == nil {
					resp.Body.Close()
				}
				return err == nil
			})
			before := client.Connections() - 1
			for range 3 {
				page, err := fetch(&client.Client, "https://www.example.com/")
				if want := opts.Protocol + " " + paper.PC1Addr6.String(); err != nil || page != want {
					t.Errorf("the page is %q (%v), want %s", page, err, want)
				}
			}
			if n := client.Connections() - before; n != 1 {
				t.Errorf("%s took %d connections", opts.Protocol, n)
			}
			client.Close()
		}
	})
}

// Row F12: a segment reaches its gateway by the gateway's alias and nothing else; with
// `egress any` it reaches what its gateway reaches, and is seen as the pseudo address.
func TestEgressIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath, families: "46", b: "egress any", policy: "lb_policy first a b"})
		hosts := map[netip.Addr]*netlab.Host{
			paper.RouterAddr6: s.Router, paper.PC1Addr6: s.PC1, paper.NeighbourAddr6(0): s.Neighbours[0],
		}
		for _, h := range hosts {
			s.listen(h, "[::]:22", sayPeer)
		}
		pseudo := paper.PseudoAddr6.String()
		for from, to := range map[string]string{server6 + ":0": "[fd00:50::2]:22", "[fd00:60::1]:0": "[fd00:60::2]:22"} {
			if got, err := s.hearFrom(from, to); err != nil || got != pseudo {
				t.Errorf("%s calls %s as %q (%v), want the pseudo address", from, to, got, err)
			}
		}
		s.wantPing(s.Server, netip.MustParseAddr("fd00:50::2"))
		for address := range hosts {
			if got, err := s.hearFrom("[fd00:60::1]:0", netip.AddrPortFrom(address, 22).String()); err != nil || got != pseudo {
				t.Errorf("with egress any %s is called by %q (%v), want the pseudo address", address, got, err)
			}
		}
		for _, address := range []string{"fd00:50::3", "fd00:50::8000:0:0:1", "2001:db8:1::1", "2001:db8:1::11", "2001:db8:10::2"} {
			for _, from := range []string{"fd00:50::1", "vnic-A"} {
				if got, err := s.curl(from, "http://["+address+"]:22/"); err == nil {
					t.Errorf("with egress gateway %s from %s says %q", address, from, got)
				}
			}
		}
		if drops := s.status().Segments["a"].Drops["egress_denied"]; drops == 0 {
			t.Error("what is denied is not counted")
		}
	})
}

// Rows F12 and S3: a segment reaches another one, by the alias under which it sees it, only
// if the configuration says so.
func TestReachIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", a: "ports any", b: "ports any\nreach a", policy: "lb_policy first a b"})
		s.listen(s.Server, server6+":9000", sayPeer)
		s.listen(s.Server, "[fd00:60::1]:9000", sayPeer)
		segments := s.status().Segments
		aOnB, bOnA := ofIPv6(segments["b"].Peers["a"]), ofIPv6(segments["a"].Peers["b"])
		if got, err := s.hearFrom("[fd00:60::1]:0", netip.AddrPortFrom(aOnB, 9000).String()); err != nil || got != bOnA.String() {
			t.Errorf("b calls %s as %q (%v), want %s", aOnB, got, err, bOnA)
		}
		if got, err := s.curl("fd00:50::1", "http://["+bOnA.String()+"]:9000/"); err == nil {
			t.Errorf("a calls %s, which says %q", bOnA, got)
		}
	})
}

// ofIPv6 is the first IPv6 address of some.
func ofIPv6(addresses []netip.Addr) netip.Addr {
	for _, a := range addresses {
		if a.Is6() {
			return a
		}
	}
	return netip.IPv6Unspecified()
}

// Row F6: what hosts and routers say about a flow comes to the socket that it is about, on
// both sides.
func TestICMPErrorsIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", a: "ports any\negress any"})
		if err := s.ask(pseudo6 + ":5999"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port of the segment: %v, want refused", err)
		}
		server := s.packetConn(s.Server, server6+":5000").(*net.UDPConn)
		setOption(t, server, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		client := s.packetConn(s.PC1, "["+paper.PC1Addr6.String()+"]:7000")
		send(t, client, pseudo6+":5000", "hello")
		_, alias := receive(t, server)
		setOption(t, server, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 1)
		send(t, server, alias, "too far")
		wantError(t, "an answer with a hop limit of 1", server, syscall.EHOSTUNREACH)
		setOption(t, server, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 64)
		send(t, server, alias, "all the way")
		if got, _ := receive(t, client); got != "all the way" {
			t.Errorf("PC1 got %q", got)
		}
		client.Close()
		send(t, server, alias, "too late")
		wantError(t, "an answer to a closed port of PC1", server, syscall.ECONNREFUSED)

		for limit, want := range map[int]error{1: syscall.EHOSTUNREACH, 2: syscall.ECONNREFUSED} {
			probe := s.packetConn(s.Server, server6+":0").(*net.UDPConn)
			setOption(t, probe, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
			setOption(t, probe, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, limit)
			send(t, probe, "["+paper.PC1Addr6.String()+"]:33434", "probe")
			wantError(t, "a probe of the segment", probe, want)
		}
	})
}

// Rows F6 and F8: a Packet Too Big comes to a segment from a router behind which the way is
// narrower, and to a client from a segment.
func TestPathMTUIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.ip(s.Router, "link set lan mtu 1400")
		s.start(caddyfile{datapath: datapath, families: "46", a: "ports any"})
		s.serveFiles(server6 + ":40000")
		s.wantDownloadFrom(pseudo6, 4*mib)

		server := s.packetConn(s.Server, server6+":5000").(*net.UDPConn)
		setOption(t, server, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		setOption(t, server, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
		client := s.packetConn(s.PC1, "["+paper.PC1Addr6.String()+"]:7000")
		send(t, client, pseudo6+":5000", "hello")
		_, alias := receive(t, server)
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(alias))
		large := make([]byte, 1452) // as much as a frame takes
		s.waitFor("the socket learns that it is too much", func() bool {
			_, err := server.WriteTo(large, to)
			return errors.Is(err, syscall.EMSGSIZE)
		})
		ip := netip.MustParseAddrPort(alias).Addr().String()
		if route := s.ip(s.Server, "route get "+ip+" from fd00:50::1"); !strings.Contains(route, "mtu 1400") {
			t.Errorf("the server's kernel has not learned the path's MTU: %s", route)
		}

		s.sendTooBig(netip.MustParseAddrPort(alias), 1300)
		s.waitFor("PC1 learns of a Packet Too Big of the segment", func() bool {
			return strings.Contains(s.ip(s.PC1, "route get 2001:db8:1::2"), "mtu 1300")
		})
	})
}

// sendTooBig has segment a say to the host behind an alias that its datagrams are too big.
func (s *scene) sendTooBig(alias netip.AddrPort, mtu uint32) {
	s.t.Helper()
	conn, mac, err := rawSocket(s.Server, "vnic-A")
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	own := netip.MustParseAddr("fd00:50::1")
	quoted := ends6{mac, mac, alias.Addr(), own}.udp6(alias.Port(), 5000, make([]byte, 1200))[14:]
	body := append(binary.BigEndian.AppendUint32(nil, mtu), quoted...)
	s.sendFrames(conn, ends6{mac, paper.RouterMAC, own, alias.Addr()}.icmp6(layers.ICMPv6TypePacketTooBig, 0, 64, gopacket.Payload(body)))
}

// Row F6: traceroute from inside a segment tells the routers on the way from each other and
// from its end, whatever it probes with, and from outside the pseudo address is the end.
func TestTracerouteIPv6(t *testing.T) {
	t.Parallel()
	end := netip.MustParseAddr("2001:db8:9::2")
	for name, want := range map[string]func(hops []string) bool{
		"translate": func(hops []string) bool {
			return hops[0] == "fd00:50::2" && isDerivedAlias(netip.MustParseAddr(hops[1]))
		},
		"preserve": func(hops []string) bool { return hops[0] == "2001:db8:1::1" && hops[1] == "2001:db8:10::2" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newScene(t, paper.NetworkOptions{IPv6: true})
				s.addSecondRouter(end)
				s.start(caddyfile{datapath: datapath, families: "46", a: "ports any\negress any\nclient_ip " + name})
				for _, probes := range []string{"-U", "-I", "-T"} {
					hops := s.traceroute(s.Server, "-6", probes, "-s", "fd00:50::1", end.String())
					if len(hops) != 3 || !want(hops) || hops[2] != end.String() {
						t.Errorf("traceroute %s shows %q", probes, hops)
					}
				}
				if hops := s.traceroute(s.PC1, "-6", "-U", "2001:db8:1::2"); !slices.Equal(hops, []string{"2001:db8:10::1", "2001:db8:1::2"}) {
					t.Errorf("traceroute from PC1 shows %q", hops)
				}
			})
		})
	}
}
