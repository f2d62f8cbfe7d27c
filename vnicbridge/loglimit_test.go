package vnicbridge

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/loglimit"
)

// logLines keeps what is logged, one text a line.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) handler() slog.Handler { return slog.NewTextHandler(l, nil) }

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

// with are the lines that have a text.
func (l *logLines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func TestLogLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines logLines
		h := loglimit.NewHandler(lines.handler())
		lan := slog.New(h).With("bridge", "lan")
		for i := range 1000 {
			lan.Info("flips", "mac", i)
			time.Sleep(10 * time.Millisecond)
		}
		lan.Info("other news")
		slog.New(h).Info("flips", "bridge", "dmz", "mac", "x")
		if n := len(lines.with("flips")); n > loglimit.Burst+2 {
			t.Errorf("%d lines, want the first %d, the last of them, and dmz's", n, loglimit.Burst)
		}
		for _, text := range []string{"other news", "dmz"} {
			if len(lines.with(text)) != 1 {
				t.Errorf("%q was left out", text)
			}
		}
		time.Sleep(loglimit.Window)
		h.Limit.Flush(time.Now())
		last := lines.with("mac=999")
		if len(last) != 1 || !strings.Contains(last[0], "left_out=") || !strings.Contains(last[0], "bridge=lan") {
			t.Errorf("in the end: %q, want the last of all, and how many were left out", last)
		}
		told := 0
		for _, line := range lines.with("bridge=lan mac=") {
			told++
			if _, count, ok := strings.Cut(line, "left_out="); ok {
				n, err := strconv.Atoi(strings.TrimSpace(count))
				if err != nil {
					t.Fatal(err)
				}
				told += n
			}
		}
		if told != 1000 {
			t.Errorf("the log accounts for %d lines of 1000", told)
		}
		time.Sleep(2 * loglimit.Window)
		h.Limit.Flush(time.Now())
		h.Limit.Flush(time.Now().Add(loglimit.Window))
		if n := len(h.Limit.Windows); n != 0 {
			t.Errorf("%d kinds of lines are remembered for ever", n)
		}
		if h.Enabled(context.Background(), slog.LevelDebug) {
			t.Error("debug lines are enabled, though the log has none")
		}
	})
}

// Row L7: whatever a neighbour sends, the log gets few lines, which tell how many were
// left out. What somebody does by hand is logged each time.
func TestNeighboursCannotFillTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var lines logLines
		r := newEmptyRig(t)
		r.plane.setLog(lines.handler())
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		r.settle()
		for i := range 300 { // in half a minute
			for j := range 3 {
				refillARP(r)
				mac := config.MAC{0x02, 0, byte(j), 0, byte(i >> 8), byte(i)}
				r.put("nic0", arp(true, mac, router, config.MAC{}, router), arp(true, mac, pseudo, config.MAC{}, pseudo), arp(true, mac, otherHost, config.MAC{}, pseudo))
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * loglimit.Window)
		for text, most := range map[string]int{"the gateway has another MAC": 4 * (loglimit.Burst + 1), "another host uses": 6 * (loglimit.Burst + 1), "put back": 0} {
			if n := len(lines.with(text)); n > most {
				t.Errorf("%d lines say %q, want %d at most", n, text, most)
			}
		}
		if len(lines.with("left_out=")) == 0 {
			t.Error("no line tells how many were left out")
		}
		for i := range 4 * loglimit.Burst {
			if err := r.plane.SetState("a", []config.State{config.Draining, config.Active}[i%2]); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(lines.with("state changed")); n != 4*loglimit.Burst {
			t.Errorf("of %d changes by hand %d are logged", 4*loglimit.Burst, n)
		}
	})
}
