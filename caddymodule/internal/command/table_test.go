package command

import (
	"strings"
	"testing"
)

// TestTablesFit checks what a table does on ever narrower screens: it leaves out details, wraps
// at spaces, and becomes a list. Without a terminal a row is one line.
func TestTablesFit(t *testing.T) {
	g := newGrid("SEGMENT", "STATE", "MAC", "ADDRESS", "NETNS")
	g.details = []string{"MAC"}
	g.row("a", warning("draining"), "02:00:00:00:00:0a", "192.168.50.1/24 fd00:50::1/64", "")
	const mac, both = "02:00:00:00:00:0a", "192.168.50.1/24 fd00:50::1/64"
	for _, test := range []struct {
		width       int
		with, lacks []string
		lines       int
	}{
		{0, []string{mac, both}, nil, 2},
		{80, []string{mac, both}, nil, 2},
		{70, []string{both, "NETNS"}, []string{mac, "MAC"}, 2},
		{45, []string{"192.168.50.1/24", "fd00:50::1/64"}, []string{mac, both}, 3},
		{35, []string{"SEGMENT  a\nSTATE    draining\n", "ADDRESS  192.168.50.1/24\n         fd00:50::1/64\nNETNS    -\n"}, []string{"MAC"}, 5},
	} {
		var text strings.Builder
		g.write(screen{Writer: &text, width: test.width})
		for line := range strings.Lines(text.String()) {
			if length := len(strings.TrimRight(line, "\n")); test.width > 0 && length > test.width {
				t.Errorf("of %d columns a line has %d: %q", test.width, length, line)
			}
		}
		for _, want := range test.with {
			if !strings.Contains(text.String(), want) {
				t.Errorf("with %d columns the table lacks %q:\n%s", test.width, want, &text)
			}
		}
		for _, other := range test.lacks {
			if strings.Contains(text.String(), other) {
				t.Errorf("with %d columns the table has %q:\n%s", test.width, other, &text)
			}
		}
		if n := strings.Count(text.String(), "\n"); n != test.lines {
			t.Errorf("with %d columns the table has %d lines, want %d:\n%s", test.width, n, test.lines, &text)
		}
	}
}

// TestColour checks that only what needs attention is coloured, that colour takes no columns,
// and that it can be off.
func TestColour(t *testing.T) {
	g := newGrid("SEGMENT", "STATE", "HEALTH")
	g.row("draining", "active", failure("unhealthy"))
	g.row("b", warning("draining"), "healthy")
	written := func(s screen) string {
		var text strings.Builder
		s.Writer = &text
		g.write(s)
		return text.String()
	}
	const plain = "SEGMENT   STATE     HEALTH\ndraining  active    unhealthy\nb         draining  healthy\n"
	if got := written(screen{width: 80}); got != plain {
		t.Errorf("without colour the table is\n%q", got)
	}
	want := strings.Replace(plain, "unhealthy", "\x1b[31munhealthy\x1b[0m", 1)
	want = strings.Replace(want, "  draining  ", "  \x1b[33mdraining\x1b[0m  ", 1)
	if got := written(screen{width: 80, coloured: true}); got != want {
		t.Errorf("with colour the table is\n%q, want\n%q", got, want)
	}
}
