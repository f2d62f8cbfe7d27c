package integration_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows A1, A10 and L5: on a NIC on which the host has IPv6 of its own, its address serves and
// calls as before, whatever becomes of the bridge, and a router advertisement is the host's.
func TestSharedNICIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		own := netip.MustParseAddr("2001:db8:1::3")
		s.ownIPv6(own)
		host := "[" + own.String() + "]:22"
		s.listen(s.Server, host, echo)
		session := s.openSession(host)
		session.want("the beginning")
		before := s.snapshot()
		delete(before, "ip neighbour") // those of the host's own address come and go
		config := caddyfile{datapath: datapath, families: "46", a: "ports any"}

		s.start(config)
		session.want("start")
		for _, line := range difference(before, s.snapshot()) {
			if strings.HasPrefix(line, "nft") { // our own table, which has a rule about the NIC
				continue
			}
			if strings.Contains(line, "nic0") || strings.HasPrefix(line, "sysctl") && !strings.Contains(line, "vnic-") {
				t.Errorf("the start has changed what is not its own: %s", line)
			}
		}
		s.listen(s.PC1, "[::]:22", sayPeer)
		for range 2 {
			s.ip(s.Router, "-6 neighbour flush dev wan")
			s.wantService6()
			session.want("service")
			if got, err := hear(s.Server, "["+paper.PC1Addr6.String()+"]:22", 2*time.Second); err != nil || got != own.String() {
				t.Errorf("PC1 is called by %q (%v), want the host's own address", got, err)
			}
		}
		s.wantOneAnswer(own)
		s.stop()
		session.want("stop")
		s.wantSame("after stop", before)
		s.start(config)
		s.kill()
		session.want("kill")
	})
}

// ownIPv6 gives the server's kernel an address of its own on the NIC, and the router for a
// gateway.
func (s *scene) ownIPv6(own netip.Addr) {
	s.t.Helper()
	for _, name := range []string{"accept_ra", "accept_dad", "router_solicitations", "disable_ipv6"} {
		if err := s.Server.Sysctl("net/ipv6/conf/nic0/"+name, "0"); err != nil {
			s.t.Fatal(err)
		}
	}
	s.ip(s.Server, "-6 address add "+own.String()+"/64 dev nic0 nodad")
	s.ip(s.Server, "-6 route add default via "+paper.RouterAddr6.String())
	s.wantPing(s.Router, own)
}

// wantOneAnswer asks a link for the pseudo address and the host's own: each is answered once.
func (s *scene) wantOneAnswer(own netip.Addr) {
	s.t.Helper()
	conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	s.waitFor("the announcements are over", func() bool { return len(advertisements(conn, mac, 1500*time.Millisecond)) == 0 })
	for _, target := range []netip.Addr{paper.PseudoAddr6, own} {
		s.sendFrames(conn, toGroup(mac, paper.NeighbourAddr6(0), solicitedNode(target)).solicit(target, mac))
		if answers := advertisements(conn, mac, 300*time.Millisecond); len(answers) != 1 || answers[0].target != target {
			s.t.Errorf("%s is answered by %+v, want one answer", target, answers)
		}
	}
}
