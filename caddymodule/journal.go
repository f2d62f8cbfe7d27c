package caddymodule

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// journalSize is how many events are kept.
const journalSize = 256

// journal keeps the last events of the data plane: what it logs at level info and
// above, whatever the configuration's loggers leave out.
type journal struct {
	mu     sync.Mutex
	events []journalEvent // the oldest first
	last   uint64         // the number of the last event
}

// journalEvent is something that happened.
type journalEvent struct {
	ID         uint64            `json:"id"` // counts from 1, from the start of the process
	Time       time.Time         `json:"time"`
	Level      slog.Level        `json:"level"`
	Message    string            `json:"message"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

func (j *journal) add(e journalEvent) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	e.ID = j.last
	if len(j.events) == journalSize {
		copy(j.events, j.events[1:])
		j.events = j.events[:journalSize-1]
	}
	j.events = append(j.events, e)
}

// list returns the events that are kept, the oldest first.
func (j *journal) list() []journalEvent {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]journalEvent{}, j.events...) // not null
}

// handler is a log handler that keeps what it hands on.
func (j *journal) handler(next slog.Handler) slog.Handler {
	return journalHandler{journal: j, next: next}
}

type journalHandler struct {
	journal *journal
	next    slog.Handler
	attrs   []slog.Attr // of the With calls so far
}

func (h journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.next.Enabled(ctx, level)
}

func (h journalHandler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelInfo {
		h.journal.add(h.event(record))
	}
	if !h.next.Enabled(ctx, record.Level) {
		return nil
	}
	return h.next.Handle(ctx, record)
}

func (h journalHandler) event(record slog.Record) journalEvent {
	e := journalEvent{Time: record.Time, Level: record.Level, Message: record.Message, Attributes: make(map[string]string)}
	for _, a := range h.attrs {
		e.Attributes[a.Key] = a.Value.String()
	}
	record.Attrs(func(a slog.Attr) bool {
		e.Attributes[a.Key] = a.Value.String()
		return true
	})
	return e
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.journal, h.next.WithAttrs(attrs), append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup leaves the keys of what is kept as they are: the data plane has no groups.
func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.journal, h.next.WithGroup(name), h.attrs}
}

// serveEvents serves GET /vnic/events.
func serveEvents(w http.ResponseWriter, r *http.Request) error {
	if err := require(w, r, http.MethodGet); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string][]journalEvent{"events": events.list()})
}
