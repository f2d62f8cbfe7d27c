package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Who looks again and again does not fill Caddy's log: neither a dashboard that stays open, nor
// --watch. What is done is logged.
func TestLooksDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{policy: "lb_policy round_robin a b"})
	t.Run("commands", func(t *testing.T) {
		before := s.adminLines("")
		s.shell("[ $(caddy vnic status a --watch | grep -m4 -c '^Data path') = 4 ]")
		s.shell("[ $(caddy vnic flows --watch --json | grep -m3 -c matched) = 3 ]")
		if lines := s.adminLines("")[len(before):]; len(lines) != 2 {
			t.Errorf("two commands that look seven times are %d lines of log:\n%s", len(lines), strings.Join(lines, "\n"))
		}
	})
	b := s.newBrowser(s.Server)
	b.resize(1180, 900)
	if !b.open(s.serveDashboard()) {
		t.Fatal("the page does not open")
	}
	const asked = `performance.getEntriesByType("resource").filter(e => e.name.includes("/vnic/")).length`
	b.awaitText("#connection", "Live")
	b.await(asked + " > 25")
	if lines := s.adminLines("/vnic/"); len(lines) > 8 {
		t.Errorf("a dashboard that has asked 25 times is in the log with %d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if lines := s.adminLines("/vnic/status"); len(lines) > 0 {
		t.Errorf("a look is logged:\n%s", strings.Join(lines, "\n"))
	}
	b.click("Drain segment a")
	s.waitFor("what was done is in the log", func() bool { return len(s.adminLines("/vnic/segments/a/drain")) == 1 })
}

// adminLines are the lines of Caddy's log about requests to the admin API whose path begins so.
func (s *scene) adminLines(path string) (lines []string) {
	s.t.Helper()
	for line := range strings.Lines(s.caddy.Log(everything)) {
		if strings.Contains(line, `"logger":"admin.api","msg":"received request"`) && strings.Contains(line, fmt.Sprintf(`"uri":"%s`, path)) {
			lines = append(lines, line)
		}
	}
	return lines
}
