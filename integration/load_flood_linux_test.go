package integration_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows L1 and L2: a neighbour floods the server from random addresses with SYNs, datagrams
// and pings, with more than twice as many flows as the table holds. All of them have one
// source port, for which the segment has few aliases. Then the neighbour opens and holds as
// many connections as the table has room for. Meanwhile every request of PC1 succeeds, over
// TCP and UDP, and a download that began before ends whole.
func TestSpoofedFlood(t *testing.T) {
	const maxFlows = 4000
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		data := make([]byte, 8*mib)
		rand.NewChaCha8([32]byte{5}).Read(data)
		s.write("data", string(data))
		s.write("index.html", "a")
		s.start(caddyfile{
			datapath: fmt.Sprintf("%s\n\t\tmax_flows %d", datapath, maxFlows),
			a:        "ports tcp/80 udp/5000\naliases 192.168.50.2-192.168.50.5",
			sites:    fmt.Sprintf("http:// {\nbind vnic/a\nroot * %s\nfile_server\n}\n", s.dir),
		})
		s.echoUDP(s.Server, "192.168.50.1:5000")
		download := s.slowDownload("http://192.168.1.2/data", len(data))
		if err := download.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}

		for name, flood := range map[string][]string{
			"SYNs":      {"-S", "-s", "1234", "-k", "-p", "80", "-c", "10000"},
			"datagrams": {"--udp", "-s", "1234", "-k", "-p", "5000", "-d", "100", "-c", "10000"},
			"pings":     {"--icmp", "-c", "10000"},
		} {
			t.Run(name, func(t *testing.T) {
				defer s.in(t)()
				before := s.status().Bridges["lan"].NewFlows
				s.beside(flood, s.wantServedAll)
				if flows := s.status().Bridges["lan"].NewFlows - before; flows < maxFlows {
					t.Errorf("the flood came to %d flows, want more than the table holds", flows)
				}
			})
			download.step()
		}
		t.Run("connections", func(t *testing.T) {
			defer s.in(t)()
			stop := s.holdConnections(s.Neighbours[0], "192.168.1.2:80", maxFlows)
			defer stop()
			for range 20 {
				s.wantServedAll()
			}
		})
		if got := download.rest(); sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("the download has %d bytes, not the file's %d, or others", len(got), len(data))
		}
		if flows := s.status().Flows; flows > maxFlows {
			t.Errorf("%d flows, more than max_flows", flows)
		}
	})
}

// wantServedAll checks that PC1 is served over TCP and UDP.
func (s *scene) wantServedAll() {
	s.t.Helper()
	if got := s.get("http://192.168.1.2/"); got != "a" {
		s.t.Fatalf("PC1 got %q", got)
	}
	err := s.ask("192.168.1.2:5000")
	if os.IsTimeout(err) { // a queue was full: UDP clients ask again
		err = s.ask("192.168.1.2:5000")
	}
	if err != nil {
		s.t.Fatalf("UDP: %v", err)
	}
}

// holdConnections has a host open connections and hold them: as many as there are to
// be as fast as it can, and further ones, more than a hundred a second, until it is
// stopped.
func (s *scene) holdConnections(h *netlab.Host, address string, n int) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var dialers sync.WaitGroup
	var mu sync.Mutex
	var held []net.Conn
	tried, enough := 0, make(chan struct{})
	for range 32 {
		dialers.Go(func() {
			for ctx.Err() == nil {
				dialing, done := context.WithTimeout(ctx, 200*time.Millisecond)
				conn, err := h.DialContext(dialing, "tcp4", address)
				done()
				mu.Lock()
				if tried++; err == nil {
					held = append(held, conn)
				}
				if tried == n {
					close(enough)
				}
				mu.Unlock()
				select {
				case <-enough:
					time.Sleep(200 * time.Millisecond)
				default:
				}
			}
		})
	}
	stop = func() {
		cancel()
		dialers.Wait()
		for _, conn := range held {
			conn.Close()
		}
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		stop()
		s.t.Fatalf("not %d connections within a minute", n)
	}
	return stop
}

// beside repeats what PC1 does for as long as a neighbour floods the server from
// random sources, as hping3 does with the options.
func (s *scene) beside(flood []string, do func()) {
	s.t.Helper()
	args := append([]string{"-q", "-i", "u50", "--rand-source"}, flood...)
	hping, err := s.Neighbours[0].Start(exec.CommandContext(s.t.Context(), "hping3", append(args, "192.168.1.2")...))
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		do()
		select {
		case <-hping.Done():
			return
		default:
		}
	}
}
