package integration_test

import (
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A6: under `client_ip preserve` every server on the segment sees its clients'
// own addresses, whatever the reverse path filter is set to, on a bare NIC and
// beside the host's own address and default route.
func TestPreserve(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		for name, prepare := range map[string][]string{
			"bare NIC":         nil,
			"host's own route": {"address add 192.168.1.3/24 dev nic0", "route add default via 192.168.1.1"},
		} {
			t.Run(name, func(t *testing.T) {
				s := newScene(t, paper.NetworkOptions{Neighbours: 1})
				for _, args := range prepare {
					s.ip(s.Server, args)
				}
				s.start(preserving(datapath))
				s.startNginx("192.168.50.1:8080", "$remote_addr")
				s.echoPeers("192.168.50.1:5000")
				s.wantRule(true)
				if prepare != nil {
					s.listen(s.Server, "192.168.1.3:22", say("the host"))
					s.listen(s.PC1, "192.168.10.2:22", sayPeer)
				}
				for _, filter := range []string{"0", "1", "2"} {
					for _, device := range []string{"all", "default", "nic0", "vnic-A"} {
						if err := s.Server.Sysctl("net/ipv4/conf/"+device+"/rp_filter", filter); err != nil {
							t.Fatal(err)
						}
					}
					t.Run("rp_filter "+filter, func(t *testing.T) {
						defer s.in(t)()
						s.wantSeen(s.PC1, "192.168.10.2")
						s.wantSeen(s.Neighbours[0], "192.168.1.11")
						s.wantSeen(s.Router, "192.168.1.1")
						s.wantPing(s.Server, netip.MustParseAddr("192.168.50.2"))
						if prepare != nil {
							s.wantOwnTraffic()
						}
					})
				}
			})
		}
	})
}

func preserving(datapath string) caddyfile {
	return caddyfile{datapath: datapath, a: "client_ip preserve\nports any", sites: `
http:// {
	bind vnic/a
	respond {remote_host}
}
`}
}

var ownRule = regexp.MustCompile(`(?m)^\d+:\s+from 192\.168\.50\.1 lookup (\d+)`)

// wantRule checks that there is one rule for the segment's address, and that its table
// has the segment's network, for a segment that preserves the default route by the
// gateway's alias, and nothing else.
func (s *scene) wantRule(preserve bool) {
	s.t.Helper()
	rules := ownRule.FindAllStringSubmatch(s.ip(s.Server, "rule"), -1)
	if len(rules) != 1 {
		s.t.Fatalf("%d rules from 192.168.50.1, want one: %q", len(rules), rules)
	}
	want := "default via 192.168.50.2 dev vnic-A onlink 192.168.50.0/24 dev vnic-A scope link"
	if !preserve {
		want = "192.168.50.0/24 dev vnic-A scope link"
	}
	if routes := strings.TrimSpace(s.ip(s.Server, "route show table "+rules[0][1])); strings.Join(strings.Fields(routes), " ") != want {
		s.t.Errorf("its table has %q, want %q", routes, want)
	}
}

// wantSeen checks under which address Caddy, nginx and a UDP server see a client,
// and that it is answered, to pings too.
func (s *scene) wantSeen(client *netlab.Host, address string) {
	s.t.Helper()
	for server, url := range map[string]string{"Caddy": "http://192.168.1.2/", "nginx": "http://192.168.1.2:8080/"} {
		if got := s.getFrom(client, url); got != address {
			s.t.Errorf("%s sees %q, want %s", server, got, address)
		}
	}
	conn := s.packetConn(client, address+":7000")
	defer conn.Close()
	send(s.t, conn, "192.168.1.2:5000", "hello")
	if got, from := receive(s.t, conn); got != "hello "+address+":7000" || from != "192.168.1.2:5000" {
		s.t.Errorf("a UDP server sees and answers %q, by %s, want %s", got, from, address)
	}
	s.wantPing(client, paper.PseudoAddr)
}

// sayPeer is a server for listen that says to a client which address it has.
func sayPeer(conn net.Conn) {
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	io.WriteString(conn, host)
}

// wantOwnTraffic checks that the host's own address serves and calls as ever.
func (s *scene) wantOwnTraffic() {
	s.t.Helper()
	if got, err := hear(s.PC1, "192.168.1.3:22", time.Second); err != nil || got != "the host" {
		s.t.Errorf("the host's own server says %q (%v)", got, err)
	}
	if got, err := hear(s.Server, "192.168.10.2:22", time.Second); err != nil || got != "192.168.1.3" {
		s.t.Errorf("PC1 is called by %q (%v), want the host's own address", got, err)
	}
}

// Rows A6 and L5: the rule goes with `preserve`, by a reload or a stop, and what a
// killed process leaves of it goes at the next start.
func TestPreserveLeavesNoRule(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		preserve := preserving(datapath)
		translate := preserve
		translate.a = "ports any"
		before := s.snapshot()
		s.start(preserve)
		s.wantRule(true)

		s.load(translate)
		s.wantRule(false)
		s.load(preserve)
		s.wantRule(true)
		if got := s.get("http://192.168.1.2/"); got != "192.168.10.2" {
			t.Errorf("after reloads Caddy sees %s", got)
		}
		for range 2 {
			s.kill()
			s.start(preserve)
			s.wantRule(true)
		}
		s.kill()
		s.start(translate)
		s.stop()
		s.wantSame("after stop", before)
	})
}
