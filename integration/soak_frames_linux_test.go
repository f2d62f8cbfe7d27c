//go:build soak

package integration_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// frameRate is the rate of hostile frames, per second.
const frameRate = 50_000

// soakFrames sends scans and floods of the usual tools from a neighbour, and then ten million
// hostile frames. Meanwhile no request of a client may fail, and the p99 of its requests may
// be at most twice the usual one. No frame may reach another segment, or leave the NIC with
// another MAC than the NIC's.
func soakFrames(t *testing.T, datapath string) []figure {
	const maxFlows, usualTime = 1 << 16, 20 * time.Second
	frames := soaked(10_000_000)
	withoutBridge := soakPlain(t)
	s := newScene(t, paper.NetworkOptions{Neighbours: 2})
	attacker, other := s.Neighbours[0], s.Neighbours[1]
	s.jumbo()
	s.apart()
	s.startApart(caddyfile{datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows), a: "ports tcp/80 udp/5000"})
	s.echoUDP(s.Server, "192.168.50.1:5000")
	o := s.orderFor(attacker)
	o.Longest, o.Rate, o.Templates = jumboMTU, frameRate, s.realFrames(attacker)
	var rate float64
	send := func(n int, to *netlab.Host) func() {
		o := o
		o.Count = n
		if to != s.Server {
			o.To = s.orderFor(to).MAC
		}
		return func() { rate = s.blast(attacker, o) }
	}

	usual := s.measure(func() { time.Sleep(usualTime) })
	besideOthers := s.measure(send(frameRate*soaked(2000)/100, other))
	vnicB := s.capture(s.Server, "vnic-B")
	besideTools := s.measure(s.scan)
	send(frames/5, s.Server)()
	before := s.use() // everything that has a bound has reached it
	began, caddy := time.Now(), s.caddyCPU()
	beside := s.measure(send(frames, s.Server))
	took, busy := time.Since(began), s.caddyCPU()-caddy

	status := s.status()
	if got := s.frames(vnicB); len(got) > 0 || status.Segments["b"].NewFlows > 0 {
		t.Errorf("segment b was reached: %d frames, %d flows", len(got), status.Segments["b"].NewFlows)
	}
	s.wantOneMAC()
	after := s.wantFlat(before)
	figures := []figure{
		{"hostile frames sent", fmt.Sprint(frames)},
		{"frames a second", fmt.Sprintf("%.0f", rate)},
		{"frames that the bridge has looked at, with those of the scans", fmt.Sprint(status.Bridges["lan"].Packets.From)},
		{"flows that they opened", fmt.Sprint(status.Bridges["lan"].NewFlows)},
		{"of the server's core Caddy took, beside the frames", fmt.Sprintf("%.2f", busy.Seconds()/took.Seconds())},
		{"a request, p50 / p99 / slowest, without", usual.String()},
		{"the same beside frames that go to another host", besideOthers.String()},
	}
	for _, m := range []struct {
		what string
		*latencies
	}{{"the frames", beside}, {"the scans", besideTools}} {
		figures = append(figures, s.compare(m.what, m.latencies, usual)...)
	}
	figures = append(figures, withoutBridge...)
	return append(figures,
		figure{"frames on the other segment's VNIC", "0"},
		figure{"MiB before the frames, after the scans and a fifth: live Go heap, resident, BPF maps", before.String()},
		figure{"MiB at the end: live Go heap, resident, BPF maps", after.String()})
}

// soakPlain sends the same scans, and a tenth of the frames, to a server that has the address
// itself, without a bridge. It shows what they do to a client even without the bridge.
func soakPlain(t *testing.T) (figures []figure) {
	t.Run("without a bridge", func(t *testing.T) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.jumbo()
		s.apart()
		s.ip(s.Server, "addr add 192.168.1.2/24 dev nic0")
		s.ip(s.Server, "route add default via 192.168.1.1")
		s.startApart(verbatim("http:// {\n\trespond a\n}\n"))
		s.echoUDP(s.Server, "192.168.1.2:5000")
		o := s.orderFor(s.Neighbours[0])
		o.Longest, o.Rate, o.Templates, o.Count = jumboMTU, frameRate, s.realFrames(s.Neighbours[0]), soaked(1_000_000)
		usual := s.measure(func() { time.Sleep(10 * time.Second) })
		tools := s.measure(s.scan)
		frames := s.measure(func() { s.blast(s.Neighbours[0], o) })
		figures = []figure{
			{"without a bridge: a request, p50 / p99 / slowest, without anything", usual.String()},
			{"without a bridge, beside the frames", frames.String()},
			{"without a bridge, beside the scans", tools.String()},
		}
	})
	return figures
}

// compare checks that no request during an attack failed, and that the p99 of their times is
// at most twice the usual one.
func (s *scene) compare(what string, beside, usual *latencies) []figure {
	s.t.Helper()
	return s.compareOf("request", what, beside, usual)
}

// compareOf is compare for another kind of thing that is asked for.
func (s *scene) compareOf(kind, what string, beside, usual *latencies) []figure {
	s.t.Helper()
	limit := 2 * usual.percentile(99)
	s.wantWithin(kind, what, beside, limit)
	return []figure{
		{kind + "s beside " + what + ", failed", beside.failed()},
		{"a " + kind + ", p50 / p99 / slowest, beside " + what, beside.String()},
		{kind + "s beside " + what + " that took more than twice the usual p99", fmt.Sprintf("%.2f %%", beside.beyond(limit))},
	}
}

// wantWithin checks that nothing failed beside an attack, and that the p99 is within a limit.
func (s *scene) wantWithin(kind, what string, beside *latencies, limit time.Duration) {
	s.t.Helper()
	if len(beside.failures) > 0 {
		s.t.Errorf("beside %s %s %ss failed: %v", what, beside.failed(), kind, beside.failures[0])
	}
	if got := beside.percentile(99); got > limit {
		s.t.Errorf("beside %s the p99 of a %s is %v, more than %v", what, kind, got, limit)
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
		words := strings.Fields("chrt --idle 0 " + command)
		// hping3 exits with 1 if some packets got no answer, which is right here.
		if output, err := s.Neighbours[0].Run(s.t.Context(), words[0], words[1:]...); err != nil && words[3] != "hping3" {
			s.t.Fatalf("%v: %s", err, output)
		}
	}
}

// wantOneMAC checks that the switch has seen only one MAC of the server (rows A4 and S2).
func (s *scene) wantOneMAC() {
	s.t.Helper()
	entries := s.run(s.Switch, "bridge", "fdb", "show", "dynamic", "brport", "to-server")
	for line := range strings.Lines(entries) {
		if !strings.HasPrefix(line, paper.NICMAC.String()+" ") {
			s.t.Errorf("the NIC has sent a frame as another: %s", line)
		}
	}
	if entries == "" {
		s.t.Error("the switch has seen nothing of the server")
	}
}
