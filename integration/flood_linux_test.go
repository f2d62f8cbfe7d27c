package integration_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// Rows L1 and L2: a neighbour floods the server with SYNs, datagrams and pings
// from random sources, more than twice what the flow table holds. Every request of PC1
// succeeds all the while, over TCP and UDP, and a download that was begun before
// comes to its end.
func TestSpoofedFlood(t *testing.T) {
	const maxFlows = 4000
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, integration.PaperOptions{Neighbours: 1})
		data := make([]byte, 8*mib)
		rand.NewChaCha8([32]byte{5}).Read(data)
		s.write("data", string(data))
		s.write("index.html", "a")
		s.start(caddyfile{
			datapath: fmt.Sprintf("%s\n\t\tmax_flows %d", datapath, maxFlows),
			a:        "ports tcp/80 udp/5000",
			sites:    fmt.Sprintf("http:// {\nbind vnic/a\nroot * %s\nfile_server\n}\n", s.dir),
		})
		s.echoUDP(s.Server, "192.168.50.1:5000")
		download := s.slowDownload("http://192.168.1.2/data", len(data))
		if err := download.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}

		for name, flood := range map[string][]string{
			"SYNs":      {"-S", "-p", "80", "-c", "10000"},
			"datagrams": {"--udp", "-p", "5000", "-d", "100", "-c", "10000"},
			"pings":     {"--icmp", "-c", "10000"},
		} {
			t.Run(name, func(t *testing.T) {
				defer s.in(t)()
				before := s.status().Bridges["lan"].NewFlows
				s.beside(flood, func() {
					if got := s.get("http://192.168.1.2/"); got != "a" {
						t.Fatalf("PC1 got %q", got)
					}
					err := s.ask("192.168.1.2:5000")
					if os.IsTimeout(err) { // a queue was full: UDP clients ask again
						err = s.ask("192.168.1.2:5000")
					}
					if err != nil {
						t.Fatalf("UDP: %v", err)
					}
				})
				if flows := s.status().Bridges["lan"].NewFlows - before; flows < maxFlows {
					t.Errorf("the flood came to %d flows, want more than the table holds", flows)
				}
			})
			download.step()
		}
		if got := download.rest(); sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("the download has %d bytes, not the file's %d, or others", len(got), len(data))
		}
		if flows := s.status().Flows; flows > maxFlows {
			t.Errorf("%d flows, more than max_flows", flows)
		}
	})
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
