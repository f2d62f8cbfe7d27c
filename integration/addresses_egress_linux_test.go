package integration_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F12: a segment reaches its gateway by the gateway's alias and nothing else,
// whatever name it has for that; with `egress off` nothing at all.
func TestEgressReachesTheGatewayOnly(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		config := caddyfile{datapath: datapath, b: "egress off", policy: "lb_policy first a b"}
		s.start(config)
		for page, h := range map[string]*netlab.Host{"router": s.Router, "PC1": s.PC1, "neighbour": s.Neighbours[0]} {
			s.listen(h, ":80", answerHTTP(page))
		}
		if got, err := s.curl("192.168.50.1", "http://192.168.50.2/"); err != nil || got != "router" {
			t.Errorf("the gateway by its alias says %q (%v)", got, err)
		}
		s.wantPing(s.Server, netip.MustParseAddr("192.168.50.2"))
		for _, address := range []string{
			"192.168.50.3", "192.168.50.254", // other aliases
			"192.168.1.1", "192.168.1.11", "192.168.10.2", // hosts by their own addresses
		} {
			// By the device: the server has no route there, but an intruder has
			// no need of routes.
			for _, from := range []string{"192.168.50.1", "vnic-A"} {
				if got, err := s.curl(from, "http://"+address+"/"); err == nil {
					t.Errorf("from %s %s says %q", from, address, got)
				}
			}
		}
		if got, err := s.curl("192.168.60.1", "http://192.168.60.2/"); err == nil {
			t.Errorf("with egress off the gateway says %q", got)
		}
		if drops := s.status().Segments["b"].Drops["egress_denied"]; drops == 0 {
			t.Error("what egress off denies is not counted")
		}
	})
}

// answerHTTP is a server for listen that answers any request with a page.
func answerHTTP(page string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\n"+page)
	}
}

// curl fetches a page from an address or a device of the server.
func (s *scene) curl(from, url string) (string, error) {
	output, err := s.Server.Run(s.t.Context(), "curl", "-sS", "--max-time", "0.3", "--interface", from, url)
	return string(output), err
}

// Row F12: two segments ping their gateway at once, and use one port to the same
// port of it, and each gets its own answers.
func TestEgressOfTwoSegments(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, policy: "lb_policy first a b"})

		pings := make(chan *netlab.PingResult, 2)
		for _, segment := range []string{"192.168.50", "192.168.60"} {
			go func() {
				ping, err := s.Server.Ping(t.Context(), netip.MustParseAddr(segment+".2"), netlab.PingOptions{
					Source: netip.MustParseAddr(segment + ".1"), Count: 20, Interval: 10 * time.Millisecond,
				})
				if err != nil {
					t.Error(err)
				}
				pings <- ping
			}()
		}
		for range 2 {
			if ping := <-pings; ping.Lost() > 0 || ping.Duplicates > 0 {
				t.Errorf("ping: %+v", ping)
			}
		}

		router := s.packetConn(s.Router, "192.168.1.1:9000")
		a := s.packetConn(s.Server, "192.168.50.1:5555")
		b := s.packetConn(s.Server, "192.168.60.1:5555")
		send(t, a, "192.168.50.2:9000", "from a")
		what, fromA := receive(t, router)
		if what != "from a" || fromA != "192.168.1.2:5555" {
			t.Errorf("the router got %q from %s", what, fromA)
		}
		send(t, b, "192.168.60.2:9000", "from b")
		what, fromB := receive(t, router)
		if what != "from b" || fromB == fromA || netip.MustParseAddrPort(fromB).Addr() != paper.PseudoAddr {
			t.Errorf("the router got %q from %s", what, fromB)
		}
		send(t, router, fromB, "to b")
		send(t, router, fromA, "to a")
		if what, from := receive(t, a); what != "to a" || from != "192.168.50.2:9000" {
			t.Errorf("a got %q from %s", what, from)
		}
		if what, from := receive(t, b); what != "to b" || from != "192.168.60.2:9000" {
			t.Errorf("b got %q from %s", what, from)
		}
	})
}

func send(t *testing.T, conn net.PacketConn, to, what string) {
	t.Helper()
	if _, err := conn.WriteTo([]byte(what), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, conn net.PacketConn) (what, from string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, addr, err := conn.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n]), addr.String()
}
