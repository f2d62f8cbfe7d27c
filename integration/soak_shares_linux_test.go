//go:build soak

package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// soakShares lets one segment, or one client, take all it can get of what segments share: the
// ports of the pseudo address, the flow table, and userspace. Beside each attacker, clients of
// another segment are served, and that segment asks the gateway, each time by a new flow. None
// of that may fail, and its p99 may be at most twice the usual one.
func soakShares(t *testing.T, datapath string) (figures []figure) {
	const maxFlows, usualTime = 1 << 13, 20 * time.Second
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	s.apart()
	s.startApart(caddyfile{
		datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows),
		a:        "ports tcp/80 udp/5000", b: "egress any",
	})
	s.echoUDP(s.Server, "192.168.50.1:5000")
	s.echoUDP(s.Router, "192.168.1.1:53")
	helper := netip.MustParseAddr("192.168.1.11")
	s.echoUDP(s.Neighbours[0], helper.String()+":5001")

	fromB, fromOutside := s.orderBy(s.Server, "vnic-B"), s.orderFor(s.Neighbours[0])
	segmentB := netip.MustParseAddr("192.168.60.1")
	usualClients, usualQuestions := s.measureBoth(func() { time.Sleep(usualTime) })
	figures = append(figures,
		figure{"a request, p50 / p99 / slowest, without", usualClients.String()},
		figure{"a question to the gateway, p50 / p99 / slowest, without", usualQuestions.String()})
	for _, attack := range []struct {
		name   string
		by     *netlab.Host
		order  order
		frames [][]byte
	}{
		{"a segment's datagrams to the gateway", s.Server, fromB, datagrams(fromB.MAC, segmentB, netip.MustParseAddr("192.168.60.2"), 53)},
		{"a segment's datagrams to a host that answers", s.Server, fromB, datagrams(fromB.MAC, segmentB, helper, 5001)},
		{"a segment's fragments", s.Server, fromB, fragments(fromB.MAC, segmentB, helper)},
		{"a client's datagrams", s.Neighbours[0], fromOutside, datagrams(fromOutside.MAC, helper, paper.PseudoAddr, 5000)},
	} {
		o := attack.order
		o.Count, o.Rate, o.Frames = soaked(200_000), floodRate, attack.frames
		clients, questions := s.measureBoth(func() { s.blast(attack.by, o) })
		figures = append(figures, s.compare(attack.name, clients, usualClients)...)
		if len(questions.failures) > 0 {
			t.Errorf("beside %s %s questions failed: %v", attack.name, questions.failed(), questions.failures[0])
		}
		if got, limit := questions.percentile(99), 2*usualQuestions.percentile(99); got > limit {
			t.Errorf("beside %s the p99 of a question is %v, more than %v", attack.name, got, limit)
		}
		figures = append(figures,
			figure{"questions beside " + attack.name + ", failed", questions.failed()},
			figure{"a question, p50 / p99 / slowest, beside " + attack.name, questions.String()})
	}
	if flows := s.status().Segments["b"].NewFlows; flows < maxFlows && !*soakQuick {
		t.Errorf("segment b has opened %d flows, want more than the table holds", flows)
	}
	return figures
}

// measureBoth measures clients of segment a, and the segment's own questions to the gateway, each
// from a new port.
func (s *scene) measureBoth(during func()) (clients, questions *latencies) {
	s.t.Helper()
	ask := func() (string, error) {
		conn, err := s.dialFrom(s.Server, "192.168.50.1:0", "udp4", "192.168.50.2:53")
		if err != nil {
			return "", err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return "", err
		}
		if _, err := conn.Write([]byte("a")); err != nil {
			return "", err
		}
		answer := make([]byte, 100)
		n, err := conn.Read(answer)
		return string(answer[:n]), err
	}
	clients = s.measure(func() { questions = measureBy(ask, during) })
	return clients, questions
}

// datagrams makes a datagram from each port but the privileged ones.
func datagrams(mac net.HardwareAddr, from, to netip.Addr, port uint16) (frames [][]byte) {
	for sport := 1024; sport < 1<<16; sport++ {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
		udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(port)}
		udp.SetNetworkLayerForChecksum(ip)
		frames = append(frames, serialize(&layers.Ethernet{SrcMAC: mac, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp))
	}
	return frames
}

// fragments makes fragments of datagrams that never become whole.
func fragments(mac net.HardwareAddr, from, to netip.Addr) (frames [][]byte) {
	for id := range 1 << 16 {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice(),
			Id: uint16(id), Flags: layers.IPv4MoreFragments, FragOffset: uint16(id % 2),
		}
		udp := &layers.UDP{SrcPort: 4000, DstPort: 5001}
		udp.SetNetworkLayerForChecksum(ip)
		frames = append(frames, serialize(&layers.Ethernet{SrcMAC: mac, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp))
	}
	return frames
}

// soakRates lets a segment be at its limit of 50 Mbit/s, with one connection and with a hundred,
// both ways. It must have 95 to 100 % of its rate, and requests at another segment a p99 of at
// most twice the usual one.
func soakRates(t *testing.T, datapath string) (figures []figure) {
	const rate, length = 50e6, 10 * time.Second
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	s.apart()
	s.startApart(caddyfile{
		datapath: datapath,
		a:        "ports any", b: "ports any\nlimit rate 50Mbit/s", policy: "steer b port tcp/9000-9001\nlb_policy first a",
	})
	var uploaded byteMeter
	s.listen(s.Server, "192.168.50.1:8080", pour)
	s.listen(s.Server, "192.168.60.1:9000", pour)
	s.listen(s.Server, "192.168.60.1:9001", func(conn net.Conn) { io.Copy(&uploaded, conn) })

	usual := s.measure(func() { time.Sleep(length) })
	alone := s.downloadRate("192.168.1.2:8080", 1, length)
	figures = append(figures, figure{"a request to another segment, p50 / p99 / slowest, without", usual.String()})
	share := func(name string, measure func() float64) {
		var got float64
		beside := s.measure(func() { got = measure() / rate })
		if got < 0.95 || got > 1 {
			t.Errorf("%s have %.3f of the rate, want 0.95 to 1", name, got)
		}
		figures = append(figures, figure{name + ": payload, of the rate", fmt.Sprintf("%.3f", got)})
		figures = append(figures, s.compare(name, beside, usual)...)
	}
	share("downloads by one connection", func() float64 { return s.downloadRate("192.168.1.2:9000", 1, length) })
	share("downloads by 100 connections", func() float64 { return s.downloadRate("192.168.1.2:9000", 100, length) })
	var stop func()
	upload := func(connections int) func() float64 {
		return func() float64 {
			stop = s.fromPC1("192.168.1.2:9001", connections, pour)
			return uploaded.rate(length)
		}
	}
	share("uploads by one connection", upload(1))
	stop()
	share("uploads by 100 connections", upload(100))
	defer stop()
	beside := s.downloadRate("192.168.1.2:8080", 1, length) // beside the uploads
	if beside < 0.8*alone {
		t.Errorf("another segment's download has %.2f of what it has alone", beside/alone)
	}
	return append(figures, figure{"another segment's download beside the uploads, of that without", fmt.Sprintf("%.2f", beside/alone)})
}
