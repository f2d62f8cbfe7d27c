package process

import (
	"context"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// The events of a segment that becomes unhealthy, and of one that becomes healthy again.
// Both carry the segment's name as segment; segment_down also carries the reason.
const (
	eventUp   = "vnic.segment_up"
	eventDown = "vnic.segment_down"
)

// HealthAnnouncer emits events about the health of segments. It emits them through the
// configuration that started last, because handlers subscribe while apps start, in any
// order. Until a configuration has started, events wait.
type HealthAnnouncer struct {
	begun func() // called when a configuration has started

	mu       sync.Mutex
	started  []*Emitter
	waiting  []vnicbridge.HealthChange
	emitting bool
}

// Emitter emits the events of one configuration.
type Emitter struct {
	announcer *HealthAnnouncer
	ctx       caddy.Context
	events    *caddyevents.App
}

// Enter makes the emitter of a configuration, which is used as soon as the configuration
// has started.
func (a *HealthAnnouncer) Enter(ctx caddy.Context) (*Emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	e := &Emitter{a, ctx, app.(*caddyevents.App)}
	return e, e.events.On("started", e)
}

// Handle is called when the configuration has started.
func (e *Emitter) Handle(context.Context, caddy.Event) error {
	e.announcer.enter(e)
	if e.announcer.begun != nil {
		e.announcer.begun()
	}
	return nil
}

func (a *HealthAnnouncer) enter(e *Emitter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = append(a.started, e)
	a.emit()
}

// Leave ends an emitter.
func (a *HealthAnnouncer) Leave(e *Emitter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = slices.DeleteFunc(a.started, func(s *Emitter) bool { return s == e })
}

// forget drops the waiting events, because the data plane has ended.
func (a *HealthAnnouncer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = nil
}

// announce emits an event soon, after all earlier events. It does not wait for handlers.
// While Caddy ends it does nothing: that listeners close is then no event.
func (a *HealthAnnouncer) announce(c vnicbridge.HealthChange) {
	if caddy.Exiting() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, c)
	a.emit()
}

// emit starts the goroutine that emits waiting events, unless it runs.
func (a *HealthAnnouncer) emit() {
	if !a.emitting {
		a.emitting = true
		go a.run()
	}
}

func (a *HealthAnnouncer) run() {
	for {
		change, by := a.next()
		if by == nil {
			return
		}
		by.emit(change)
	}
}

// next takes the first waiting event, and returns its emitter; nil if no event can go.
func (a *HealthAnnouncer) next() (c vnicbridge.HealthChange, by *Emitter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 || len(a.started) == 0 {
		a.emitting = false
		return c, nil
	}
	c, a.waiting = a.waiting[0], a.waiting[1:]
	return c, a.started[len(a.started)-1]
}

func (e *Emitter) emit(c vnicbridge.HealthChange) {
	name, data := eventUp, map[string]any{"segment": c.Segment}
	if c.Reason != "" {
		name, data["reason"] = eventDown, c.Reason
	}
	e.events.Emit(e.ctx, name, data)
}

var _ caddyevents.Handler = (*Emitter)(nil)
