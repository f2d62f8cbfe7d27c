//go:build soak

package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

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
		a:        "ports tcp/80 udp/5000", b: "egress any", policy: "lb_policy first a b",
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
		figures = append(figures, s.compareOf("question", attack.name, questions, usualQuestions)...)
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
// both ways. It must have 95 to 100 % of its rate, no request at another segment may fail, and a
// download of 400 Mbit/s from there goes on as fast. How long requests take is only told: client
// and sender share cores.
func soakRates(t *testing.T, datapath string) (figures []figure) {
	const rate, demand, length = 50e6, 400e6, 10 * time.Second
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	s.apart()
	s.startApart(caddyfile{
		datapath: datapath,
		a:        "ports any", b: "ports any\nlimit rate 50Mbit/s", policy: "steer b port tcp/9000-9001\nlb_policy first a",
	})
	var uploaded, downloaded byteMeter
	s.listen(s.Server, "192.168.50.1:8080", func(conn net.Conn) {
		if err := setPacingRate(conn, demand/8); err != nil {
			t.Error(err)
		}
		pour(conn)
	})
	s.listen(s.Server, "192.168.60.1:9000", pour)
	s.listen(s.Server, "192.168.60.1:9001", func(conn net.Conn) { io.Copy(&uploaded, conn) })

	defer s.fromPC1("192.168.1.2:8080", 1, func(conn net.Conn) { io.Copy(&downloaded, conn) })()
	var alone float64
	usual := s.measure(func() { alone = downloaded.rate(length) })
	figures = append(figures, figure{"a request to another segment, p50 / p99 / slowest, without", usual.String()})
	for _, c := range []struct {
		name        string
		connections int
		to          string
		use         func(net.Conn)
		meter       *byteMeter
	}{
		{"downloads by one connection", 1, "192.168.1.2:9000", nil, new(byteMeter)},
		{"downloads by 100 connections", 100, "192.168.1.2:9000", nil, new(byteMeter)},
		{"uploads by one connection", 1, "192.168.1.2:9001", pour, &uploaded},
		{"uploads by 100 connections", 100, "192.168.1.2:9001", pour, &uploaded},
	} {
		if c.use == nil {
			c.use = func(conn net.Conn) { io.Copy(c.meter, conn) }
		}
		stop := s.fromPC1(c.to, c.connections, c.use)
		time.Sleep(3 * time.Second) // the connections begin
		var got, other float64
		beside := s.measure(func() {
			before := downloaded.bytes.Load()
			got = c.meter.rate(length) / rate
			other = float64(downloaded.bytes.Load()-before) * 8 / (length + time.Second).Seconds() / alone
		})
		stop()
		if got < 0.95 || got > 1 {
			t.Errorf("%s have %.3f of the rate, want 0.95 to 1", c.name, got)
		}
		if len(beside.failures) > 0 {
			t.Errorf("beside %s %s requests failed: %v", c.name, beside.failed(), beside.failures[0])
		}
		if other < 0.95 {
			t.Errorf("beside %s another segment's download has %.2f of what it has alone", c.name, other)
		}
		figures = append(figures,
			figure{c.name + ": payload, of the rate", fmt.Sprintf("%.3f", got)},
			figure{"another segment's download beside " + c.name + ", of that without", fmt.Sprintf("%.2f", other)},
			figure{"requests at another segment beside " + c.name + ", failed", beside.failed()},
			figure{"p50 / p99 / slowest of these", beside.String()})
	}
	return figures
}

// setPacingRate bounds what a connection sends, in bytes a second (SO_MAX_PACING_RATE, socket(7)).
func setPacingRate(conn net.Conn, rate int) error {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate)
	}), err)
}
