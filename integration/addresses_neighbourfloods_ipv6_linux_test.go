package integration_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows L2 and L7: a neighbour floods the link with NDP, and with SYNs from addresses of the
// link that nobody has. The log gets few lines, the bridge asks for few of the addresses, the
// host's own table of neighbours does not grow, and the router and another host of the link
// still reach the servers.
func TestNeighbourFloodsIPv6(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, NAT: true, Neighbours: 2})
		s.start(caddyfile{datapath: datapath, families: "46"})
		s.wantService6()
		conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		before, neighbours := len(s.caddy.Log(everything)), s.neighbours6()

		for i := range 20000 { // the gateway seems to have another MAC with each
			liar := net.HardwareAddr{0x02, 0, 0, 1, byte(i >> 8), byte(i)}
			s.sendFrames(conn, toGroup(liar, paper.RouterAddr6, allNodes6).icmp6(layers.ICMPv6TypeNeighborAdvertisement, 0, 255,
				&layers.ICMPv6NeighborAdvertisement{
					Flags: 0x20, TargetAddress: paper.RouterAddr6.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: liar}},
				}))
			if i%1000 == 0 {
				time.Sleep(50 * time.Millisecond)
			}
		}
		s.wantService6()
		for i := range 6000 { // and now 6,000 hosts ask for the pseudo address
			asker := net.HardwareAddr{0x02, 0, 0, 2, byte(i >> 8), byte(i)}
			s.sendFrames(conn, toGroup(asker, onLink(i), solicitedNode(paper.PseudoAddr6)).solicit(paper.PseudoAddr6, asker))
		}

		wan := s.capture(s.Router, paper.RouterWANDevice)
		began := time.Now()
		for i := range 20000 {
			syn := &layers.TCP{SYN: true, SrcPort: 80, DstPort: 80, Window: 1000}
			s.sendFrames(conn, ends6{mac, paper.NICMAC, onLink(0x10000 + i), paper.PseudoAddr6}.frame(layers.IPProtocolTCP, 64, syn))
		}
		s.waitFor("the new host gets an answer", func() bool {
			body, err := fetch(s.Neighbours[1].HTTPClient(), "http://"+pseudo6+"/")
			return err == nil && body == "a"
		})
		// SolicitationRate of package link, with as many at once.
		most := 100 * (2 + int(time.Since(began)/time.Second))
		if n := countSolicitations(s.frames(wan)); n == 0 || n > most {
			t.Errorf("the bridge sent %d solicitations in %v, want some, and %d at most", n, time.Since(began), most)
		}
		s.wantService6()
		text := s.caddy.Log(everything)[before:]
		if n := strings.Count(text, "\n"); n > 60 {
			t.Errorf("%d log lines", n)
		}
		if strings.Contains(text, "changed from outside") {
			t.Errorf("what follows from the gateway's MAC is said to be changed from outside:\n%s", text)
		}
		if now := s.neighbours6(); now > neighbours+5 {
			t.Errorf("the server's kernel has %d neighbours of IPv6, before the floods %d", now, neighbours)
		}
	})
}

// onLink is one of many addresses in the network of the server's NIC.
func onLink(i int) netip.Addr {
	raw := paper.PseudoAddr6.As16()
	raw[8], raw[13], raw[14], raw[15] = 1, byte(i>>16), byte(i>>8), byte(i)
	return netip.AddrFrom16(raw)
}

// countSolicitations counts the Neighbor Solicitations that left by the server's NIC.
func countSolicitations(frames []netlab.Frame) (n int) {
	const icmpType = 14 + 40
	for _, f := range frames {
		if isIPv6(f) && net.HardwareAddr(f.Data[6:12]).String() == paper.NICMAC.String() &&
			len(f.Data) > icmpType && f.Data[20] == 58 && f.Data[icmpType] == layers.ICMPv6TypeNeighborSolicitation {
			n++
		}
	}
	return n
}

// neighbours6 is how many neighbours of IPv6 the server's kernel knows.
func (s *scene) neighbours6() int {
	s.t.Helper()
	return strings.Count(s.run(s.Server, "ip", "-6", "neigh"), "\n")
}
