//go:build soak

package integration_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// soakTurnover opens and closes five million connections, more than seventy times as many as
// the flow table holds. Once the table has been full, the memory must not grow.
func soakTurnover(t *testing.T, datapath string) []figure {
	const maxFlows = 1 << 16
	flows := uint64(soaked(5_000_000))
	s := newScene(t, paper.NetworkOptions{Neighbours: 4})
	s.start(caddyfile{datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows), a: "ports tcp/80", sites: "# none"})
	s.startNginx("192.168.50.1:80", "a")
	for _, h := range s.Neighbours {
		if err := h.Sysctl("net/ipv4/ip_local_port_range", "10000 65535"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	s.turnOver(flows / 5) // now the table is full, and evicts ended flows from now on
	before := s.use()
	opened := s.turnOver(flows)
	took := time.Since(began)
	if got := s.get("http://192.168.1.2/"); got != "a" {
		t.Errorf("after all of it PC1 got %q", got)
	}
	status := s.status()
	if status.Flows > maxFlows {
		t.Errorf("%d flows in the table, more than max_flows", status.Flows)
	}
	after := s.wantFlat(before)
	return []figure{
		{"connections opened and closed", fmt.Sprint(opened)},
		{"time, s", fmt.Sprintf("%.0f", took.Seconds())},
		{"flows in the table at the end, of at most", fmt.Sprintf("%d of %d", status.Flows, maxFlows)},
		{"MiB after a fifth: live Go heap, resident, BPF maps", before.String()},
		{"MiB at the end: live Go heap, resident, BPF maps", after.String()},
	}
}

// turnOver makes the neighbours connect, request and close until the bridge has opened the
// given number of flows.
func (s *scene) turnOver(flows uint64) (opened uint64) {
	s.t.Helper()
	for opened < flows {
		var asking errgroup.Group
		for _, h := range s.Neighbours {
			asking.Go(func() error {
				_, err := h.Run(s.t.Context(), "wrk", "--threads", "1", "--connections", "16", "--duration", "5s",
					"--header", "Connection: close", "http://192.168.1.2/")
				return err
			})
		}
		if err := asking.Wait(); err != nil {
			s.t.Fatal(err)
		}
		now := s.status().Bridges["lan"].NewFlows
		if now == opened {
			s.t.Fatalf("after %d flows nobody is served any more", opened)
		}
		opened = now
	}
	return opened
}
