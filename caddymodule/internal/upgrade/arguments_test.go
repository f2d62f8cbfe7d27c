package upgrade

import (
	"slices"
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	for given, want := range map[string]string{
		"run": "run --config new",
		"run --environ --config /etc/caddy/Caddyfile":         "run --environ --config new",
		"run -c Caddyfile -a caddyfile --pidfile p":           "run --pidfile p --config new",
		"run --config=Caddyfile --adapter=caddyfile --resume": "run --config new",
		"run --pingback 127.0.0.1:1 --config Caddyfile":       "run --config new",
		"run --resume --envfile e":                            "run --envfile e --config new",
	} {
		if got := withConfig(strings.Fields(given), "new"); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s becomes %q, want %q", given, got, want)
		}
	}
	if !watches([]string{"run", "--watch"}) || !watches([]string{"run", "-w"}) || watches([]string{"run", "--config", "w"}) {
		t.Error("--watch is not found, or is found where it is not")
	}
	for _, args := range [][]string{{"run", "--pidfile", "p"}, {"run", "--pidfile=p", "--watch"}} {
		if got := pidfile(args); got != "p" {
			t.Errorf("of %q the pidfile is %q", args, got)
		}
	}
	if got := pidfile([]string{"run", "--pidfile"}); got != "" {
		t.Errorf("a pidfile without a name is %q", got)
	}
}
