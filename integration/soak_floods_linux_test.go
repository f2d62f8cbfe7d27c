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

// floodRate is how many packets a second a flood has.
const floodRate = 20_000

// soakFloods has a neighbour flood the server from a hundred thousand addresses that
// are not its own, all with one source port, and then with connections that it holds.
// The flow table is full, and the few aliases are taken, all the while; of a client's
// requests none fails.
func soakFloods(t *testing.T, datapath string) (figures []figure) {
	const maxFlows = 1 << 13
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	s.apart()
	s.startApart(caddyfile{
		datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows),
		a:        "ports tcp/80 udp/5000\naliases 192.168.50.2-192.168.50.5",
	})
	s.echoUDP(s.Server, "192.168.50.1:5000")
	syn := func() (layers.IPProtocol, gopacket.SerializableLayer) {
		return layers.IPProtocolTCP, &layers.TCP{SrcPort: 1234, DstPort: 80, SYN: true, Seq: rand.Uint32(), Window: 64240}
	}
	datagram := func() (layers.IPProtocol, gopacket.SerializableLayer) {
		return layers.IPProtocolUDP, &layers.UDP{SrcPort: 1234, DstPort: 5000}
	}
	echo := func() (layers.IPProtocol, gopacket.SerializableLayer) {
		return layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 1234}
	}
	figures = append(figures, s.besideSpoofed("SYNs", syn)...)
	figures = append(figures, s.besideSpoofed("datagrams", datagram)...)
	figures = append(figures, s.besideSpoofed("echo requests", echo)...)
	s.hearLate()
	figures = append(figures, s.besideSpoofed("SYNs, and a client that is heard late", syn)...)
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

// hearLate has the router lose what PC1 answers in the first 0.6 s after a SYN, longer
// than the flood takes to fill the table: so PC1 is like a client that is far away. What
// it sends again comes a quarter of a second after that; but if it learned from one
// connection how long the next ones take, it would wait for seconds.
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

// besideSpoofed measures a client while a neighbour sends packets from addresses that
// are not its own.
func (s *scene) besideSpoofed(name string, transport func() (layers.IPProtocol, gopacket.SerializableLayer)) []figure {
	s.t.Helper()
	o := s.orderFor(s.Neighbours[0])
	o.Count, o.Rate = soaked(200_000), floodRate
	o.Frames = spoofed(o.MAC, transport)
	var rate float64
	figures := s.besideFlood(name, func() { rate = s.blast(s.Neighbours[0], o) })
	return append(figures, figure{name + ": sent a second", fmt.Sprintf("%.0f", rate)})
}

// besideFlood measures a client and the CPUs while a flood lasts.
func (s *scene) besideFlood(name string, flood func()) []figure {
	s.t.Helper()
	machine, caddy, began := s.cpu(), s.caddyCPU(), time.Now()
	beside := s.measure(flood)
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

// cpu is what the machine's CPUs have worked, the sender and the client included.
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

// spoofed makes packets from a hundred thousand random addresses.
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
