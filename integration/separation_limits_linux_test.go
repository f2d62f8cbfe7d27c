package integration_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const limitsPage = "docs/limits.md"

// A segment that has as many flows as it may gets no more, whoever opens connections there, and
// the other segment is served. When connections end, others begin.
func TestLimitOfFlows(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		const most = 20
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.start(caddyfile{datapath: datapath, a: "ports any\nlimit flows 20", b: "ports any", policy: "steer b port tcp/8080\nlb_policy first a"})
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(io.Discard, conn) })
		s.listen(s.Server, "192.168.60.1:8080", say("b"))

		release := s.holdConnections(s.Neighbours[0], "192.168.1.2:9000", most+10)
		if n, highest := s.status().Segments["a"].Flows, most+runtime.NumCPU(); n > highest { // each core may open one at the same moment
			t.Errorf("segment a has %d flows, want at most %d", n, highest)
		}
		if got, err := hear(s.PC1, "192.168.1.2:8080", 2*time.Second); got != "b" {
			t.Errorf("beside segment a at its limit segment b says %q (%v)", got, err)
		}
		if s.connects("192.168.1.2:80") {
			t.Error("a client gets a connection beyond the limit")
		}
		if n := s.status().Bridges["lan"].Drops["limit"]; n == 0 {
			t.Error("nothing is counted as beyond the limit")
		}
		release()
		s.wantService()
	})
}

// Of a flood of SYNs, as many begin a flow in a second as may. A session goes on meanwhile.
func TestLimitOfNewFlows(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		const most = 50
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.start(caddyfile{datapath: datapath, a: "ports any\nlimit new 50/s"})
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.2:9000")
		before, began := s.status(), time.Now()
		s.run(s.Neighbours[0], "timeout", "--preserve-status", "--signal=INT", "4", "hping3", "-q", "-i", "u2000", "-S", "-p", "80", "192.168.1.2")
		after, took := s.status(), time.Since(began)
		begun := float64(after.Segments["a"].NewFlows - before.Segments["a"].NewFlows)
		if least, highest := 0.5*most*3, most*(took.Seconds()+1.2); begun < least || begun > highest {
			t.Errorf("%.0f flows began in %v, want %.0f to %.0f", begun, took, least, highest)
		}
		if after.Bridges["lan"].Drops["limit"] == before.Bridges["lan"].Drops["limit"] {
			t.Error("nothing is counted as beyond the limit")
		}
		session.want("the flood")
		time.Sleep(time.Second) // the flood has used up the rate
		s.wantService()
	})
}

// Both ways a segment has its rate, with one connection and with many, over IPv4 and IPv6, and
// another segment has more beside it. What comes after a lost packet waits for it and then comes
// at once, so what programs read may exceed the rate for a moment; what the VNIC counts may not.
func TestLimitOfRate(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		const rate = 20e6
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", a: "ports any\nlimit rate 20Mbit/s", b: "ports any", policy: "steer b port tcp/8080\nlb_policy first a"})
		var uploaded byteMeter
		s.listen(s.Server, "192.168.50.1:9000", pour)
		s.listen(s.Server, server6+":9000", pour)
		s.listen(s.Server, server6+":9001", func(conn net.Conn) { io.Copy(&uploaded, conn) })
		s.listen(s.Server, "192.168.60.1:8080", pour)

		for _, c := range []struct {
			name        string
			to          string
			connections int
		}{
			{"one download", "192.168.1.2:9000", 1},
			{"100 downloads", "192.168.1.2:9000", 100},
			{"one download over IPv6", pseudo6 + ":9000", 1},
		} {
			if got := s.downloadRate(c.to, c.connections, 2*time.Second) / rate; got < 0.7 || got > 1.05 {
				t.Errorf("%s: %.2f of the rate, want almost 0.97", c.name, got)
			}
		}
		stop := s.fromPC1(pseudo6+":9001", 20, pour)
		if got := uploaded.rate(2*time.Second) / rate; got < 0.7 {
			t.Errorf("uploads over IPv6: %.2f of the rate, want almost 0.97", got)
		}
		before, began := s.status().Segments["a"].Bytes.To, time.Now()
		time.Sleep(time.Second)
		if got := 8 * float64(s.status().Segments["a"].Bytes.To-before) / time.Since(began).Seconds() / rate; got > 1.06 { // the burst is 0.05
			t.Errorf("uploads over IPv6 bring %.2f of the rate into the segment", got)
		}
		if got := s.downloadRate("192.168.1.2:8080", 1, time.Second) / rate; got < 2 {
			t.Errorf("beside them another segment has %.2f of the rate, want more", got)
		}
		stop()
		status := s.status()
		if status.Segments["a"].Refused == 0 || status.Segments["b"].Refused != 0 {
			t.Errorf("%d packets are counted as beyond the limit, and %d of the segment without one", status.Segments["a"].Refused, status.Segments["b"].Refused)
		}
		s.wantService6()
	})
}

// byteMeter counts the bytes that are written to it.
type byteMeter struct{ bytes atomic.Int64 }

func (w *byteMeter) Write(p []byte) (int, error) {
	w.bytes.Add(int64(len(p)))
	return len(p), nil
}

// rate returns how many bits a second come in a time, after a second in which connections begin.
func (w *byteMeter) rate(in time.Duration) float64 {
	time.Sleep(time.Second)
	before, began := w.bytes.Load(), time.Now()
	time.Sleep(in)
	return float64(w.bytes.Load()-before) * 8 / time.Since(began).Seconds()
}

// pour writes to a connection until it ends.
func pour(conn net.Conn) {
	piece := make([]byte, 64<<10)
	for {
		if _, err := conn.Write(piece); err != nil {
			return
		}
	}
}

// fromPC1 opens connections from PC1 and uses each until stop is called.
func (s *scene) fromPC1(address string, connections int, use func(net.Conn)) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	for range connections {
		go func() {
			conn, err := s.PC1.DialContext(ctx, "tcp", address)
			if err != nil {
				return // beside the others it came to nothing
			}
			defer conn.Close()
			context.AfterFunc(ctx, func() { conn.Close() })
			use(conn)
		}()
	}
	return cancel
}

// downloadRate returns how many bits a second come to PC1 by a number of connections.
func (s *scene) downloadRate(address string, connections int, in time.Duration) float64 {
	var got byteMeter
	defer s.fromPC1(address, connections, func(conn net.Conn) { io.Copy(&got, conn) })()
	return got.rate(in)
}

// The Caddyfile of docs/limits.md is valid, and its limits are in force.
func TestLimitsPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	s.loadText(strings.ReplaceAll(caddyfilesOf(t, limitsPage)[0], "eth1", "nic0"))
	if got := s.status().Segments["shop"].Limits; got.Flows != 20000 || got.FlowsPerClient != 100 || got.New != 500 || got.Rate != 100e6 {
		t.Errorf("the limits are %+v", got)
	}
}
