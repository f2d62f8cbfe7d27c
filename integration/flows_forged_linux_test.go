package integration_test

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F4+: a host on the network that knows the addresses and ports of connections, and
// sends RST, FIN and SYN in their clients' names with any numbers, moves none to another
// segment, ends none, and leaves all of them established.
func TestForgedSegmentsChangeNothing(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.start(caddyfile{datapath: datapath, a: "ports any", b: "ports any", policy: "lb_policy round_robin a b"})
		for _, segment := range []string{"192.168.50.1", "192.168.60.1"} {
			s.listen(s.Server, segment+":9000", echo)
		}
		var sessions []*session
		for range 8 {
			sessions = append(sessions, s.openSession("192.168.1.2:9000"))
			sessions[len(sessions)-1].want("the start")
		}
		segments := s.segmentsOf(sessions)
		conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		random := rand.New(rand.NewPCG(4, uint64(time.Now().UnixNano())))
		for _, session := range sessions {
			client := session.conn.LocalAddr().(*net.TCPAddr)
			for _, flags := range []string{"RST", "RST ACK", "FIN ACK", "RST", "SYN"} {
				tcp := &layers.TCP{
					SrcPort: layers.TCPPort(client.Port), DstPort: 9000, Seq: random.Uint32(), Ack: random.Uint32(), Window: 1024,
					RST: strings.Contains(flags, "RST"), FIN: strings.Contains(flags, "FIN"),
					SYN: flags == "SYN", ACK: strings.Contains(flags, "ACK"),
				}
				ip := &layers.IPv4{
					Version: 4, TTL: 63, Protocol: layers.IPProtocolTCP,
					SrcIP: client.IP, DstIP: paper.PseudoAddr.AsSlice(),
				}
				_ = tcp.SetNetworkLayerForChecksum(ip)
				s.sendFrames(conn, serialize(&layers.Ethernet{SrcMAC: mac, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4}, ip, tcp))
			}
		}
		if got := s.segmentsOf(sessions); got != segments {
			t.Errorf("the sessions were with %s and are with %s", segments, got)
		}
		for _, session := range sessions {
			session.want("what was forged")
		}
		if got := s.segmentsOf(sessions); got != segments {
			t.Errorf("at last the sessions were with %s and are with %s", segments, got)
		}
	})
}
