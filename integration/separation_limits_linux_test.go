package integration_test

import (
	"io"
	"net"
	"runtime"
	"strings"
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

// The Caddyfile of docs/limits.md is valid, and its limits are in force.
func TestLimitsPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	s.loadText(strings.ReplaceAll(caddyfilesOf(t, limitsPage)[0], "eth1", "nic0"))
	if got := s.status().Segments["shop"].Limits; got.Flows != 20000 || got.FlowsPerClient != 100 || got.New != 500 {
		t.Errorf("the limits are %+v", got)
	}
}
