//go:build soak

package integration_test

import (
	"fmt"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// use has the resources that Caddy's process takes.
type use struct {
	gauge.Memory
	live int64 // bytes of the Go heap that are in use, after a collection
	leaks
}

func (u use) String() string {
	return fmt.Sprintf("%.1f, %.1f, %.1f", float64(u.live)/mib, float64(u.Resident)/mib, float64(u.Maps)/mib)
}

func (s *scene) use() (u use) {
	s.t.Helper()
	profile := s.fromAdmin("/debug/pprof/heap?debug=1&gc=1")
	_, statistics, _ := strings.Cut(profile, "# HeapAlloc = ")
	if _, err := fmt.Sscan(statistics, &u.live); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if u.Memory, err = gauge.ProcessMemory(s.caddy.Process().PID()); err != nil {
		s.t.Fatal(err)
	}
	u.leaks = s.countLeaks()
	return u
}

// comesAndGoes is how much of the heap may be in use for a moment, such as fragments that wait
// for their first. A leak of four bytes for each of five million flows, or of two bytes for
// each frame, is larger.
const comesAndGoes = 16 * mib

// wantFlat checks that Caddy takes no more than before. In a quick run it does not check the
// memory, because such a run ends before the flow table and the memory of past flows are full.
func (s *scene) wantFlat(before use) (after use) {
	s.t.Helper()
	s.waitFor("descriptors, BPF maps and goroutines are as few as before: "+before.leaks.String(), func() bool {
		after = s.use()
		return after.within(before.leaks)
	})
	if !*soakQuick && (after.live > before.live+comesAndGoes || after.Maps > before.Maps) {
		s.t.Errorf("the memory grew: from %v MiB to %v (live Go heap, resident, BPF maps)", before, after)
	}
	return after
}
