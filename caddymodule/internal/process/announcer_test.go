package process

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// heard records the events about segments that a configuration's handler got.
type heard struct {
	mu    sync.Mutex
	texts []string
}

func (h *heard) Handle(_ context.Context, e caddy.Event) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts = append(h.texts, fmt.Sprintf("%s %v %v", e.Name(), e.Data["segment"], e.Data["reason"]))
	return nil
}

func (h *heard) want(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.texts, want) {
		t.Errorf("%s: heard %q, want %q", when, h.texts, want)
	}
	h.texts = nil
}

// listening returns the emitter of a configuration whose events app has a handler, and what
// that handler gets.
func listening(t *testing.T, a *EventAnnouncer) (*Emitter, *heard) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	app, h := new(caddyevents.App), new(heard)
	if err := app.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vnic.segment_up", "vnic.segment_down"} {
		if err := app.On(name, h); err != nil {
			t.Fatal(err)
		}
	}
	return &Emitter{a, ctx, app}, h
}

// TestEventsGoToTheStartedConfiguration checks that events wait until a configuration has
// started, and go in order to the one that has started last.
func TestEventsGoToTheStartedConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(EventAnnouncer)
		first, heardFirst := listening(t, a)
		second, heardSecond := listening(t, a)
		down, up := vnicbridge.Event{Name: vnicbridge.SegmentDown, Data: map[string]any{"segment": "a", "reason": "refused"}}, vnicbridge.Event{Name: vnicbridge.SegmentUp, Data: map[string]any{"segment": "a"}}
		started := func(e *Emitter) {
			t.Helper()
			if err := e.Handle(t.Context(), caddy.Event{}); err != nil {
				t.Fatal(err)
			}
		}
		a.announce(down)
		a.announce(up)
		heardFirst.want(t, "before it has started")
		started(first)
		heardFirst.want(t, "once it has started", "vnic.segment_down a refused", "vnic.segment_up a <nil>")
		started(second)
		a.announce(down)
		heardFirst.want(t, "after another has started")
		heardSecond.want(t, "once it has started", "vnic.segment_down a refused")
		a.Leave(second)
		a.announce(up)
		heardFirst.want(t, "when the other is taken back", "vnic.segment_up a <nil>")
		a.Leave(first)
		a.announce(down)
		a.forget()
		started(second)
		heardSecond.want(t, "of a plane that has ended")
	})
}
