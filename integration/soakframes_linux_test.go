//go:build soak

package integration_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// soakFrames has a neighbour send scans and floods of the usual tools, and then ten
// million hostile frames, beside a client of whose requests none fails. None
// of them reaches another segment, and none leaves the NIC under another MAC.
func soakFrames(t *testing.T, datapath string) []figure {
	const maxFlows, usualTime = 1 << 16, 15 * time.Second
	frames := soaked(10_000_000)
	s := newScene(t, integration.PaperOptions{Neighbours: 1})
	s.jumbo()
	s.start(caddyfile{datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows), a: "ports tcp/80 udp/5000"})
	s.echoUDP(s.Server, "192.168.50.1:5000")
	flood := s.newBlast(s.Neighbours[0])
	flood.hostile.templates = append(flood.hostile.templates, s.realFrames(s.Neighbours[0])...)

	usual := s.measure(func() { time.Sleep(usualTime) })
	vnicB := s.capture(s.Server, "vnic-B")
	besideTools := s.measure(s.scan)
	flood.send(frames / 5)
	before := s.use() // all that is bounded has come to its bound
	began := time.Now()
	beside := s.measure(func() { flood.send(frames) })
	took := time.Since(began)

	status := s.status()
	if got := s.frames(vnicB); len(got) > 0 || status.Segments["b"].NewFlows > 0 {
		t.Errorf("segment b was reached: %d frames, %d flows", len(got), status.Segments["b"].NewFlows)
	}
	s.wantOneMAC()
	after := s.wantFlat(before)
	for what, m := range map[string]*latencies{"the frames": beside, "the scans": besideTools} {
		if len(m.failures) > 0 {
			t.Errorf("beside %s %d of %d requests failed: %v", what, len(m.failures), len(m.failures)+len(m.times), m.failures[0])
		}
	}
	if limit := 2 * usual.percentile(99); beside.percentile(99) > limit {
		t.Errorf("beside the frames the p99 of a request is %v, more than %v", beside.percentile(99), limit)
	}
	return []figure{
		{"hostile frames sent", fmt.Sprint(frames)},
		{"frames a second", fmt.Sprintf("%.0f", float64(frames)/took.Seconds())},
		{"frames that the bridge has looked at, with those of the scans", fmt.Sprint(status.Bridges["lan"].Packets.In)},
		{"flows that they opened", fmt.Sprint(status.Bridges["lan"].NewFlows)},
		{"requests beside the frames, failed", fmt.Sprintf("%d of %d", len(beside.failures), len(beside.failures)+len(beside.times))},
		{"requests beside the scans, failed", fmt.Sprintf("%d of %d", len(besideTools.failures), len(besideTools.failures)+len(besideTools.times))},
		{"a request, p50 / p99 / slowest, without", usual.String()},
		{"a request, p50 / p99 / slowest, beside the frames", beside.String()},
		{"a request, p50 / p99 / slowest, beside the scans", besideTools.String()},
		{"frames on the other segment's VNIC", "0"},
		{"MiB before the frames, after the scans and a fifth: live Go heap, resident, BPF maps", before.String()},
		{"MiB at the end: live Go heap, resident, BPF maps", after.String()},
	}
}

// scan runs port scans and floods against the pseudo address.
func (s *scene) scan() {
	s.t.Helper()
	for _, command := range []string{
		"nmap -n -Pn -T5 --max-retries 0 -sS -p- --min-rate 10000 192.168.1.2",
		"nmap -n -Pn -T5 --max-retries 0 -sU -p1-5100 --min-rate 10000 192.168.1.2",
		"nmap -n -Pn -T5 --max-retries 0 -sN -p1-1000 192.168.1.2",
		"nmap -n -Pn -T5 --max-retries 0 -sX -p1-1000 --badsum 192.168.1.2",
		"nmap -n -Pn -T5 --max-retries 0 -sA -p1-1000 -f 192.168.1.2",
		"nmap -n -Pn -T5 --max-retries 0 -sS -p1-1000 --ip-options R 192.168.1.2",
		"nmap -n -Pn -T5 --max-retries 0 -sO 192.168.1.2",
		"nmap -n -Pn -T5 --max-retries 0 -O -p80,81 192.168.1.2",
		"hping3 -q -i u20 -c 100000 --rand-source -S -p 80 192.168.1.2",
		"hping3 -q -i u20 -c 100000 --rand-source --udp -p 5000 -d 1400 192.168.1.2",
		"hping3 -q -i u20 -c 100000 --rand-source --icmp 192.168.1.2",
		"hping3 -q -i u20 -c 20000 --rand-source --udp -p 5000 -d 8000 --frag --mtu 64 192.168.1.2",
		"hping3 -q -i u20 -c 50000 --rand-source --udp -p 5000 --morefrag --fragoff 8 192.168.1.2",
		"hping3 -q -i u20 -c 50000 --rand-source -SAFRPU -p 80 192.168.1.2",
		"hping3 -q -i u20 -c 50000 --rand-source -S -p 80 --badcksum 192.168.1.2",
		"hping3 -q -i u20 -c 50000 --rand-source --rawip --ipproto 47 -d 100 192.168.1.2",
	} {
		words := strings.Fields(command)
		// hping3 exits with 1 when not all were answered, as is to be.
		if output, err := s.Neighbours[0].Run(s.t.Context(), words[0], words[1:]...); err != nil && words[0] != "hping3" {
			s.t.Fatalf("%v: %s", err, output)
		}
	}
}

// wantOneMAC asks the switch which MACs it has seen of the server: rows A4 and S2.
func (s *scene) wantOneMAC() {
	s.t.Helper()
	entries := s.run(s.Switch, "bridge", "fdb", "show", "dynamic", "brport", "to-server")
	for line := range strings.Lines(entries) {
		if !strings.HasPrefix(line, integration.NICMAC.String()+" ") {
			s.t.Errorf("the NIC has sent a frame as another: %s", line)
		}
	}
	if entries == "" {
		s.t.Error("the switch has seen nothing of the server")
	}
}
