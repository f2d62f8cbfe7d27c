package integration_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows A7+ and L7: a neighbour floods the link with ARP. The log gets few lines, and the
// router and another host of the link still reach the servers.
func TestNeighbourFloods(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true, Neighbours: 2})
		// The link is a /19, so that there are more hosts on it than are remembered.
		config := strings.Replace(caddyfile{datapath: datapath}.String(), "192.168.1.2/24", "192.168.1.2/19", 1)
		if err := s.tryStart(config); err != nil {
			t.Fatal(err)
		}
		s.wantService()
		conn, _, err := rawSocket(s.Neighbours[0], "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()

		before := len(s.caddy.Log(everything))
		for i := range 20000 { // the gateway seems to have another MAC with each
			s.sendFrames(conn, arpRequest(net.HardwareAddr{0x02, 0, 0, 1, byte(i >> 8), byte(i)}, paper.RouterAddr, paper.RouterAddr))
			if i%1000 == 0 {
				time.Sleep(150 * time.Millisecond) // for some seconds: a change a second is taken in
			}
		}
		s.wantService()
		text := s.caddy.Log(everything)[before:]
		if n := strings.Count(text, "\n"); n > 60 {
			t.Errorf("%d log lines", n)
		}
		if strings.Contains(text, "changed from outside") {
			t.Errorf("what follows from the gateway's MAC is said to be changed from outside:\n%s", text)
		}

		// A host that asks for the pseudo address with each of 6,000 addresses.
		for i := range 6000 {
			sender := netip.AddrFrom4([4]byte{192, 168, byte(4 + i>>8), byte(i)})
			s.sendFrames(conn, arpRequest(net.HardwareAddr{0x02, 0, 0, 2, byte(i >> 8), byte(i)}, sender, paper.PseudoAddr))
		}
		s.waitFor("the new host gets an answer", func() bool {
			body, err := fetch(s.Neighbours[1].HTTPClient(), "http://192.168.1.2/")
			return err == nil && body == "a"
		})
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q", got)
		}
	})
}
