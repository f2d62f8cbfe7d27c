package loglimit

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
)

// Of the lines with the same message about the same subject, Burst are written at once in
// each Window. The others are counted. When the window ends, the last one is written, with
// the number of the omitted lines before it.
const (
	Burst  = 10
	Window = 10 * time.Second
)

// Limit holds the windows that are open. All handlers that derive from one share it.
type Limit struct {
	mu      lockorder.Mutex[lockorder.Log]
	Windows map[string]*logWindowState // by subject and message
}

// logWindowState is an open window.
type logWindowState struct {
	began   time.Time
	written int
	leftOut int
	last    slog.Record  // the last omitted line
	next    slog.Handler // which writes it
}

// limitedHandler is a slog.Handler that rate-limits lines.
type limitedHandler struct {
	next  slog.Handler
	Limit *Limit
	about string // the subject that WithAttrs has set
}

// NewHandler returns a handler that rate-limits lines and passes them to next. Call
// [Limit.Flush] regularly, because without it omitted lines are written only when another
// line comes.
func NewHandler(next slog.Handler) *limitedHandler {
	return &limitedHandler{next: next, Limit: &Limit{Windows: make(map[string]*logWindowState)}}
}

// subjects are the attributes that make up a line's subject. Their values come from the
// configuration, so there are few windows. Values of other attributes may come from packets.
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

// leavesOut counts a line and tells whether it must be omitted.
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

// Flush ends the windows that are over. It writes the last omitted line of each, with the
// number of the others in the attribute left_out.
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
