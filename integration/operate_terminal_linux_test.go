package integration_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// TestTerminal reads the commands as a person does: on a terminal of 80 columns no line is
// longer and a draining segment is yellow; NO_COLOR and a pipe have no colour; --watch repeats;
// and the shell completes the names of the running instance. With the log of docs/operating.md
// only what was done is logged, not who looked.
func TestTerminal(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	quiet := strings.TrimSuffix(strings.TrimPrefix(examples.Beginning(t, "docs/operating.md", "{\n\tlog default {"), "{\n"), "}\n")
	s.start(caddyfile{policy: "lb_policy round_robin a b", global: quiet})
	s.get("http://192.168.1.2/")
	if said := s.vnic("drain", "a"); !strings.HasPrefix(said, "Segment a is draining: ") {
		t.Errorf("drain says %q", said)
	}
	const yellow = "\x1b[33mdraining\x1b[0m"
	for _, command := range []string{"status", "status a", "status lan", "flows", "bans"} {
		s.wantColumns(80, command, s.onTerminal(80, command))
	}
	if page := s.onTerminal(80, "status"); strings.Count(page, yellow) != 1 || strings.Contains(page, "\x1b[31m") {
		t.Errorf("segment a drains, and the terminal shows\n%q", page)
	}
	for name, page := range map[string]string{"NO_COLOR is set": s.onTerminal(80, "status", "NO_COLOR=1"), "it is a pipe": s.vnic("status")} {
		if strings.Contains(page, "\x1b") || !strings.Contains(page, "draining") {
			t.Errorf("%s, and the status is\n%q", name, page)
		}
	}
	if wide := s.vnic("status"); !strings.Contains(wide, "  ALIASES  ") {
		t.Errorf("a pipe gets no details:\n%s", wide)
	}
	s.shell("[ $(caddy vnic status a --watch | grep -m2 -c '^Data path') = 2 ]")
	if names := s.shell("caddy __complete vnic switch lan '' 2>/dev/null"); names != "a\nb\n:4\n" {
		t.Errorf("the shell completes to %q", names)
	}
	s.wantLog("the segment's state changed")
	if strings.Contains(s.caddy.Log(everything), `"admin.api"`) {
		t.Error("each look is in the log, although docs/operating.md excludes it")
	}
}

// onTerminal runs a command of `caddy vnic` on a terminal, and returns what it shows.
func (s *scene) onTerminal(columns int, command string, env ...string) string {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	words := fmt.Sprintf("stty cols %d rows 24; TERM=xterm env %s %s %s vnic %s", columns, strings.Join(env, " "), asCaddy, self, command)
	return strings.ReplaceAll(s.run(s.Server, "script", "-qec", words, "/dev/null"), "\r\n", "\n")
}

// wantColumns checks that no line is longer than a number of columns. Colours take none.
func (s *scene) wantColumns(columns int, command, page string) {
	s.t.Helper()
	for line := range strings.Lines(page) {
		for _, colour := range []string{"\x1b[33m", "\x1b[31m", "\x1b[0m", "\n"} {
			line = strings.ReplaceAll(line, colour, "")
		}
		if len(line) > columns {
			s.t.Errorf("%s shows %d columns:\n%s", command, len(line), page)
			return
		}
	}
}
