// Package journal keeps the last events of the data plane.
package journal

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// size is the number of events that are kept.
const size = 256

// Journal keeps the last events of the data plane. An event is a record that the data plane
// logs at level info or above, even if the configuration's loggers drop it.
type Journal struct {
	mu     sync.Mutex
	events []Event // the oldest first
	last   uint64  // the number of the last event
}

// Event is something that happened.
type Event struct {
	ID         uint64            `json:"id"` // counts from 1 at the start of the process
	Time       time.Time         `json:"time"`
	Level      slog.Level        `json:"level"`
	Message    string            `json:"message"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

func (j *Journal) add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	e.ID = j.last
	if len(j.events) == size {
		copy(j.events, j.events[1:])
		j.events = j.events[:size-1]
	}
	j.events = append(j.events, e)
}

// List returns the events that are kept, the oldest first.
func (j *Journal) List() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Event{}, j.events...) // not null
}

// Handler returns a log handler that keeps events, and passes all records to next.
func (j *Journal) Handler(next slog.Handler) slog.Handler {
	return handler{journal: j, next: next}
}

type handler struct {
	journal *Journal
	next    slog.Handler
	attrs   []slog.Attr // of the With calls so far
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.next.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelInfo {
		h.journal.add(h.event(record))
	}
	if !h.next.Enabled(ctx, record.Level) {
		return nil
	}
	return h.next.Handle(ctx, record)
}

func (h handler) event(record slog.Record) Event {
	e := Event{Time: record.Time, Level: record.Level, Message: record.Message, Attributes: make(map[string]string)}
	for _, a := range h.attrs {
		e.Attributes[a.Key] = a.Value.String()
	}
	record.Attrs(func(a slog.Attr) bool {
		e.Attributes[a.Key] = a.Value.String()
		return true
	})
	return e
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.journal, h.next.WithAttrs(attrs), append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup does not change the keys of events, because the data plane uses no groups.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.journal, h.next.WithGroup(name), h.attrs}
}
