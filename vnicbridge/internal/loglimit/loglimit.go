package loglimit

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// What a neighbour, a segment or the machine does can cause a log line each time. Of
// the lines that say the same of the same thing, Burst are written at once in
// Window; the others are counted, and the last of them is written at its end.
const (
	Burst  = 10
	Window = 10 * time.Second
)

// Limit is what is known of the lines of late.
type Limit struct {
	mu      sync.Mutex
	Windows map[string]*logWindowState
}

type logWindowState struct {
	began   time.Time
	written int
	leftOut int
	last    slog.Record // of those that were left out
	next    slog.Handler
}

// limitedHandler is a handler whose lines are limited.
type limitedHandler struct {
	next  slog.Handler
	Limit *Limit
	about string // the values of the attributes that say what the lines are about
}

func NewHandler(next slog.Handler) *limitedHandler {
	return &limitedHandler{next: next, Limit: &Limit{Windows: make(map[string]*logWindowState)}}
}

// subjects are the attributes that say what a line is about. Their values come from
// the configuration, so there are few; those of others may come from packets.
var subjects = map[string]bool{"bridge": true, "nic": true, "segment": true, "device": true}

func subjectOf(a slog.Attr) string {
	if !subjects[a.Key] {
		return ""
	}
	return a.Key + "=" + a.Value.String() + " "
}

func (h *limitedHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *limitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	about := h.about
	for _, a := range attrs {
		about += subjectOf(a)
	}
	return &limitedHandler{h.next.WithAttrs(attrs), h.Limit, about}
}

func (h *limitedHandler) WithGroup(name string) slog.Handler {
	return &limitedHandler{h.next.WithGroup(name), h.Limit, h.about}
}

func (h *limitedHandler) Handle(ctx context.Context, r slog.Record) error {
	var key strings.Builder
	key.WriteString(h.about)
	r.Attrs(func(a slog.Attr) bool {
		key.WriteString(subjectOf(a))
		return true
	})
	key.WriteString(r.Message)
	h.Limit.Flush(r.Time)
	if h.Limit.leavesOut(key.String(), r, h.next) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// leavesOut tells whether a line is one too many.
func (l *Limit) leavesOut(key string, r slog.Record, next slog.Handler) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.Windows[key]
	if w == nil {
		w = &logWindowState{began: r.Time}
		l.Windows[key] = w
	}
	if w.written < Burst {
		w.written++
		return false
	}
	w.leftOut++
	w.last, w.next = r.Clone(), next
	return true
}

// Flush ends the windows that are over: the last line that was left out in each is
// written, with the number of the others.
func (l *Limit) Flush(now time.Time) {
	type line struct {
		slog.Record
		to slog.Handler
	}
	var due []line
	l.mu.Lock()
	for key, w := range l.Windows {
		if now.Sub(w.began) < Window {
			continue
		}
		if w.leftOut == 0 {
			delete(l.Windows, key)
			continue
		}
		w.last.AddAttrs(slog.Int("left_out", w.leftOut-1))
		due = append(due, line{w.last, w.next})
		l.Windows[key] = &logWindowState{began: now, written: 1}
	}
	l.mu.Unlock()
	for _, line := range due {
		if line.to.Enabled(context.Background(), line.Level) {
			_ = line.to.Handle(context.Background(), line.Record)
		}
	}
}
