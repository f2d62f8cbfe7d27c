package integration_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const frontPage = `
http:// {
	bind vnic/front
	respond "the front"
}
`

// default_route gives a bare host a way out, for sockets that are bound to
// nothing, from its start to its end.
func TestDefaultRoute(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.listen(s.PC1, ":7000", sayPeer)
		before := s.snapshot()
		if said, err := hear(s.Server, "192.168.10.2:7000", time.Second); err == nil {
			t.Fatalf("before the start PC1 says %q", said)
		}
		s.startFront("", frontCaddyfile{datapath: datapath, front: wayOut, sites: frontPage})
		if said, err := hear(s.Server, "192.168.10.2:7000", time.Second); err != nil || said != "192.168.1.2" {
			t.Errorf("PC1 is called by %q (%v), want the pseudo address", said, err)
		}
		if err := s.caddyReload(frontCaddyfile{datapath: datapath, front: "egress any", sites: frontPage}); err != nil {
			t.Fatal(err)
		}
		if routes := s.ip(s.Server, "route show default"); routes != "" {
			t.Errorf("after a reload without default_route there is still %s", routes)
		}
		if err := s.caddyReload(frontCaddyfile{datapath: datapath, front: wayOut, sites: frontPage}); err != nil {
			t.Fatal(err)
		}
		s.stop()
		s.wantSame("after stop", before)
	})
}

// A default route that the host has is never replaced: the start fails, or the
// reload, and says which route stands in the way.
func TestDefaultRouteOfTheHostStays(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
		with := frontCaddyfile{datapath: datapath, front: wayOut, sites: frontPage}
		without := frontCaddyfile{datapath: datapath, front: "egress any", sites: frontPage}
		for _, route := range []string{"default via 192.168.1.1 dev nic0", "default via 192.168.1.1 dev nic0 metric 700", "default dev nic0"} {
			s.ip(s.Server, "route add "+route)
			before := s.snapshot()
			s.wantRouteNamed(route, s.tryStart(with.String()))
			s.wantSame("after the start has failed", before)

			s.startFront("", without)
			s.wantRouteNamed(route, s.caddyReload(with))
			if got := s.get("http://192.168.1.2/"); got != "the front" {
				t.Errorf("after the reload has failed the page is %q", got)
			}
			s.stop()
			s.wantSame("after stop", before)
			s.ip(s.Server, "route del "+route)
		}
	})
}

// wantRouteNamed checks an error about a default route, which is to name it as
// the ip command does.
func (s *scene) wantRouteNamed(route string, err error) {
	s.t.Helper()
	if err == nil {
		s.t.Fatalf("default_route beside %q is no error", route)
	}
	for _, want := range []string{"segment front", "default_route", route, "never replaced"} {
		if !strings.Contains(err.Error(), want) {
			s.t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

// caddyReload has Caddy load a front's Caddyfile.
func (s *scene) caddyReload(config frontCaddyfile) error {
	s.t.Helper()
	s.write("Caddyfile", config.String())
	return s.caddy.Reload(s.t.Context())
}

// Row F12: two segments resolve names by the same port at once, and each gets the
// answers to its own questions.
func TestTwoSegmentsResolveAtOnce(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		dns := s.serveDNS(s.PC1, map[string]netip.Addr{
			"a.example.com.": netip.MustParseAddr("203.0.113.1"), "b.example.com.": netip.MustParseAddr("203.0.113.2"),
		})
		s.startFront("", frontCaddyfile{datapath: datapath, a: "egress any", b: "egress any", bridge: "lb_policy first a b", sites: frontPage})
		a, b := s.packetConn(s.Server, "192.168.50.1:5353"), s.packetConn(s.Server, "192.168.60.1:5353")
		for id := range uint16(20) {
			send(t, a, "192.168.10.2:53", query(t, id, "a.example.com."))
			send(t, b, "192.168.10.2:53", query(t, id, "b.example.com."))
			wantAnswer(t, a, id, "203.0.113.1")
			wantAnswer(t, b, id, "203.0.113.2")
		}
		ports := map[netip.AddrPort]int{}
		for _, asker := range dns.asked() {
			ports[asker]++
		}
		if len(ports) != 2 || ports[netip.MustParseAddrPort("192.168.1.2:5353")] != 20 {
			t.Errorf("the server was asked by %v, want 20 times by each of two ports, one of them 5353", ports)
		}
	})
}

// wantAnswer checks the next answer that a socket gets.
func wantAnswer(t *testing.T, conn net.PacketConn, id uint16, address string) {
	t.Helper()
	answer, from := receive(t, conn)
	var m dnsmessage.Message
	if err := m.Unpack([]byte(answer)); err != nil {
		t.Fatal(err)
	}
	want := dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}
	if len(m.Answers) != 1 || m.ID != id || m.Answers[0].Body.GoString() != want.GoString() || from != "192.168.10.2:53" {
		t.Errorf("%s is answered %s by %s, want %s", conn.LocalAddr(), m.GoString(), from, address)
	}
}
