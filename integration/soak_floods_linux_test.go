//go:build soak

package integration_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// floodRate is the rate of a flood, in packets per second.
const floodRate = 20_000

// soakFloods floods the server from a neighbour: first from a hundred thousand forged
// addresses with one source port, then with connections that the neighbour holds open. The
// flow table stays full, and the few aliases stay taken. No request of a client may fail.
func soakFloods(t *testing.T, datapath string) (figures []figure) {
	const maxFlows = 1 << 13
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	s.apart()
	s.startApart(caddyfile{
		datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows),
		a:        "ports tcp/80 udp/5000\naliases 192.168.50.2-192.168.50.5",
	})
	s.echoUDP(s.Server, "192.168.50.1:5000")
	datagram := func() (layers.IPProtocol, gopacket.SerializableLayer) {
		return layers.IPProtocolUDP, &layers.UDP{SrcPort: 1234, DstPort: 5000}
	}
	echo := func() (layers.IPProtocol, gopacket.SerializableLayer) {
		return layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 1234}
	}
	figures = append(figures, s.besideSpoofed("SYNs", synTo(80))...)
	figures = append(figures, s.besideSpoofed("datagrams", datagram)...)
	figures = append(figures, s.besideSpoofed("echo requests", echo)...)
	s.hearLate()
	figures = append(figures, s.besideSpoofed("SYNs, and a client that is heard late", synTo(80))...)
	s.run(s.Router, "nft", "delete", "table", "ip", "late")
	opened := s.status().Bridges["lan"].NewFlows
	if opened < maxFlows && !*soakQuick {
		t.Errorf("the floods came to %d flows, want more than the table holds", opened)
	}
	figures = append(figures, figure{"flows that these opened", fmt.Sprint(opened)})
	stop := s.holdConnections(s.Neighbours[0], "192.168.1.2:80", max(soaked(maxFlows), 100))
	defer stop()
	return append(figures, s.besideFlood("connections that are held", func() { time.Sleep(15 * time.Second) })...)
}

// synTo makes SYNs to a port.
func synTo(port layers.TCPPort) func() (layers.IPProtocol, gopacket.SerializableLayer) {
	return func() (layers.IPProtocol, gopacket.SerializableLayer) {
		return layers.IPProtocolTCP, &layers.TCP{SrcPort: 1234, DstPort: port, SYN: true, Seq: rand.Uint32(), Window: 64240}
	}
}

// hearLate makes the router drop PC1's packets for 0.6 s after a SYN, which is longer than the
// flood takes to fill the table. So PC1 behaves like a client far away. PC1 retransmits a
// quarter of a second later. It must not save metrics of a connection for the next ones,
// because it would then wait for seconds.
func (s *scene) hearLate() {
	s.t.Helper()
	if err := s.PC1.Sysctl("net/ipv4/tcp_no_metrics_save", "1"); err != nil {
		s.t.Fatal(err)
	}
	s.run(s.Router, "nft", `table ip late {
	set young { type ipv4_addr . inet_service; flags timeout; size 65535; }
	chain forward {
		type filter hook forward priority 0;
		ip saddr 192.168.10.2 tcp flags & (syn | ack) == syn add @young { ip saddr . tcp sport timeout 600ms }
		ip saddr 192.168.10.2 tcp flags & (syn | ack) == ack ip saddr . tcp sport @young drop
	}
}`)
}

// besideSpoofed measures how a client is served while a neighbour sends packets with forged
// source addresses.
func (s *scene) besideSpoofed(name string, transport func() (layers.IPProtocol, gopacket.SerializableLayer)) []figure {
	s.t.Helper()
	o := s.orderFor(s.Neighbours[0])
	o.Count, o.Rate = soaked(200_000), floodRate
	o.Frames = spoofed(o.MAC, transport)
	var rate float64
	figures := s.besideFlood(name, func() { rate = s.blast(s.Neighbours[0], o) })
	return append(figures, figure{name + ": sent a second", fmt.Sprintf("%.0f", rate)})
}

// besideFlood measures a client and the CPU time during a flood.
func (s *scene) besideFlood(name string, flood func()) []figure {
	s.t.Helper()
	return s.besideFloodAt("http://192.168.1.2/", name, flood)
}

func (s *scene) besideFloodAt(url, name string, flood func()) []figure {
	s.t.Helper()
	machine, caddy, began := s.cpu(), s.caddyCPU(), time.Now()
	beside := s.measureAt(url, flood)
	took := time.Since(began)
	share := func(cpu time.Duration) float64 { return cpu.Seconds() / took.Seconds() }
	if len(beside.failures) > 0 {
		s.t.Errorf("beside %s %s requests failed: %v", name, beside.failed(), beside.failures[0])
	}
	return []figure{
		{name + ": requests beside them, failed", beside.failed()},
		{name + ": a request, p50 / p99 / slowest", beside.String()},
		{name + ": CPUs busy, of these Caddy's", fmt.Sprintf("%.2f, %.2f", share(s.cpu()-machine), share(s.caddyCPU()-caddy))},
	}
}

// cpu returns the CPU time that the machine has used, including the sender and the client.
func (s *scene) cpu() time.Duration {
	s.t.Helper()
	busy, err := gauge.MachineCPU()
	if err != nil {
		s.t.Fatal(err)
	}
	return busy
}

func (s *scene) caddyCPU() time.Duration {
	s.t.Helper()
	busy, err := gauge.ProcessCPU(s.caddy.Process().PID())
	if err != nil {
		s.t.Fatal(err)
	}
	return busy
}

// spoofed makes packets from a hundred thousand random source addresses.
func spoofed(mac net.HardwareAddr, transport func() (layers.IPProtocol, gopacket.SerializableLayer)) [][]byte {
	frames := make([][]byte, 100_000)
	for i := range frames {
		protocol, layer := transport()
		source := make(net.IP, 4)
		binary.BigEndian.PutUint32(source, 20<<24|rand.Uint32N(80<<24)) // 20.0.0.0 to 115.255.255.255
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: source, DstIP: paper.PseudoAddr.AsSlice()}
		if l, ok := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			l.SetNetworkLayerForChecksum(ip)
		}
		frames[i] = serialize(&layers.Ethernet{SrcMAC: mac, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4}, ip, layer)
	}
	return frames
}
