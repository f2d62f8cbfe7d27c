//go:build soak

package integration_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// soakIPv6 is soakFrames and soakFloods over IPv6: scans, hostile frames with extension headers,
// fragments and messages of NDP and MLD, and floods from as many networks as there are packets.
// No request of a client may fail, beside scans and frames their p99 may be at most twice the
// usual one, no frame may reach another segment, and the memory must not grow.
func soakIPv6(t *testing.T, datapath string) []figure {
	const maxFlows, usualTime = 1 << 13, 20 * time.Second
	const url = "http://" + pseudo6 + "/"
	frames := soaked(3_000_000)
	s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
	attacker := s.Neighbours[0]
	s.jumbo()
	s.apart()
	s.startApart(caddyfile{datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows), families: "46", a: "ports tcp/80 udp/5000"})
	s.echoUDP(s.Server, server6+":5000")
	s.wantService6()
	o := s.orderFor(attacker)
	o.IPv6, o.Longest, o.Rate = true, jumboMTU, frameRate
	var rate float64
	send := func(n int) func() {
		o := o
		o.Count = n
		return func() { rate = s.blast(attacker, o) }
	}

	usual := s.measureAt(url, func() { time.Sleep(usualTime) })
	vnicB := s.capture(s.Server, "vnic-B")
	besideTools := s.measureAt(url, s.scan6)
	floods := s.floods6(url)
	send(frames / 5)()
	before := s.use() // everything that has a bound has reached it
	began, caddy := time.Now(), s.caddyCPU()
	beside := s.measureAt(url, send(frames))
	took, busy := time.Since(began), s.caddyCPU()-caddy
	status := s.status()
	s.wantNothingInto(vnicB)
	if status.Segments["b"].NewFlows > 0 {
		t.Errorf("segment b was reached: %d flows", status.Segments["b"].NewFlows)
	}
	after := s.wantFlat(before)
	figures := []figure{
		{"hostile frames sent", fmt.Sprint(frames)},
		{"frames a second", fmt.Sprintf("%.0f", rate)},
		{"flows that they, the scans and the floods opened", fmt.Sprint(status.Bridges["lan"].NewFlows)},
		{"of the server's core Caddy took, beside the frames", fmt.Sprintf("%.2f", busy.Seconds()/took.Seconds())},
		{"a request, p50 / p99 / slowest, without", usual.String()},
	}
	figures = append(figures, s.compare("the frames", beside, usual)...)
	figures = append(figures, s.compare("the scans", besideTools, usual)...)
	figures = append(figures, floods...)
	return append(figures,
		figure{"MiB before the frames, after the floods and a fifth: live Go heap, resident, BPF maps", before.String()},
		figure{"MiB at the end: live Go heap, resident, BPF maps", after.String()})
}

// floods6 measures a client beside floods, of which each packet comes from another network.
func (s *scene) floods6(url string) (figures []figure) {
	s.t.Helper()
	for _, flood := range []struct {
		name  string
		frame func(ends6) []byte
	}{
		{"SYNs", func(e ends6) []byte {
			return e.frame(layers.IPProtocolTCP, 64, &layers.TCP{SrcPort: 1234, DstPort: 80, SYN: true, Seq: rand.Uint32(), Window: 64240})
		}},
		{"datagrams", func(e ends6) []byte { return e.udp6(1234, 5000, nil) }},
		{"echo requests", func(e ends6) []byte {
			return e.icmp6(layers.ICMPv6TypeEchoRequest, 0, 64, &layers.ICMPv6Echo{Identifier: 1234})
		}},
		{"solicitations", func(e ends6) []byte {
			return ends6{e.srcMAC, groupMAC(solicitedNode(e.dst)), neighbour(e.src), solicitedNode(e.dst)}.solicit(e.dst, e.srcMAC)
		}},
	} {
		o := s.orderFor(s.Neighbours[0])
		o.Count, o.Rate, o.Frames = soaked(200_000), floodRate, spoofed6(o.MAC, flood.frame)
		figures = append(figures, s.besideFloodAt(url, flood.name, func() { s.blast(s.Neighbours[0], o) })...)
	}
	return figures
}

// spoofed6 makes packets from a hundred thousand random networks.
func spoofed6(mac net.HardwareAddr, frame func(ends6) []byte) [][]byte {
	frames := make([][]byte, 100_000)
	for i := range frames {
		source := netip.MustParseAddr("2001:db8:8000::1").As16()
		binary.BigEndian.PutUint32(source[4:], 0x80000000|rand.Uint32())
		frames[i] = frame(ends6{mac, paper.NICMAC, netip.AddrFrom16(source), paper.PseudoAddr6})
	}
	return frames
}

// neighbour is an address on the link, made of one elsewhere.
func neighbour(a netip.Addr) netip.Addr {
	raw := paper.NeighbourAddr6(0).As16()
	elsewhere := a.As16()
	copy(raw[8:], elsewhere[4:12])
	return netip.AddrFrom16(raw)
}

// scan6 runs port scans against the pseudo address.
func (s *scene) scan6() {
	s.t.Helper()
	for _, arguments := range []string{
		"-sS -p- --min-rate 10000", "-sU -p1-5100 --min-rate 10000", "-sN -p1-1000", "-sX -p1-1000 --badsum",
		"-sA -p1-1000", "-sO", "-O -p80,81",
	} {
		words := strings.Fields("chrt --idle 0 nmap -6 -n -Pn -T5 --max-retries 0 " + arguments + " 2001:db8:1::2")
		if output, err := s.Neighbours[0].Run(s.t.Context(), words[0], words[1:]...); err != nil {
			s.t.Fatalf("%v: %s", err, output)
		}
	}
}
