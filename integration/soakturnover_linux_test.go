//go:build soak

package integration_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-vnic/caddy-vnic/integration"
	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// soakTurnover opens and closes five million connections, more than seventy times
// what the flow table holds, and looks at the memory: once the table has been
// full, it stays what it is.
func soakTurnover(t *testing.T, datapath string) []figure {
	const maxFlows = 1 << 16
	flows := uint64(soaked(5_000_000))
	s := newScene(t, integration.PaperOptions{Neighbours: 4})
	s.start(caddyfile{datapath: fmt.Sprintf("%s\nmax_flows %d", datapath, maxFlows), a: "ports tcp/80", sites: "# none"})
	s.startNginx("192.168.50.1:80", "a")
	for _, h := range s.Neighbours {
		if err := h.Sysctl("net/ipv4/ip_local_port_range", "10000 65535"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	s.turnOver(flows / 5) // the table is full, and forgets what is over as it goes on
	before, leaks := s.memory(), s.countLeaks()
	opened := s.turnOver(flows)
	after, took := s.memory(), time.Since(began)
	if got := s.get("http://192.168.1.2/"); got != "a" {
		t.Errorf("after all of it PC1 got %q", got)
	}
	status := s.status()
	if status.Flows > maxFlows {
		t.Errorf("%d flows in the table, more than max_flows", status.Flows)
	}
	// A quick run ends before the table and what it remembers of the past are full.
	if !*soakQuick && (after.live > before.live+2*mib || after.Maps > before.Maps) {
		t.Errorf("the memory grew: from %v MiB to %v (live heap, resident, BPF maps)", before, after)
	}
	s.waitFor("descriptors, BPF maps and goroutines are as few as before: "+leaks.String(), func() bool {
		return s.countLeaks().within(leaks)
	})
	return []figure{
		{"connections opened and closed", fmt.Sprint(opened)},
		{"time, s", fmt.Sprintf("%.0f", took.Seconds())},
		{"flows in the table at the end, of at most", fmt.Sprintf("%d of %d", status.Flows, maxFlows)},
		{"MiB after a fifth: live Go heap, resident, BPF maps", before.String()},
		{"MiB at the end: live Go heap, resident, BPF maps", after.String()},
	}
}

// turnOver has the neighbours connect, ask and close until the bridge has had a
// number of flows in all.
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

// use is the memory of Caddy's process.
type use struct {
	gauge.Memory
	live int64 // bytes of the Go heap that are in use, after a collection
}

func (u use) String() string {
	return fmt.Sprintf("%.1f, %.1f, %.1f", float64(u.live)/mib, float64(u.Resident)/mib, float64(u.Maps)/mib)
}

func (s *scene) memory() (u use) {
	s.t.Helper()
	profile := s.getFrom(s.Server, "http://localhost:2019/debug/pprof/heap?debug=1&gc=1")
	_, statistics, _ := strings.Cut(profile, "# HeapAlloc = ")
	if _, err := fmt.Sscan(statistics, &u.live); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if u.Memory, err = gauge.ProcessMemory(s.caddy.Process().PID()); err != nil {
		s.t.Fatal(err)
	}
	return u
}
