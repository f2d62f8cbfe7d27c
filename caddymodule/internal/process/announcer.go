package process

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// EventAnnouncer emits the events of the data plane as Caddy's, named vnic.<event>. It emits
// them through the configuration that started last, because handlers subscribe while apps
// start, in any order. Until a configuration has started, events wait.
type EventAnnouncer struct {
	begun  func() // called when a configuration has started
	ending func() // called when a configuration is about to stop

	mu       sync.Mutex
	started  []*Emitter
	waiting  []vnicbridge.Event
	emitting bool
}

// Emitter emits the events of one configuration.
type Emitter struct {
	announcer *EventAnnouncer
	ctx       caddy.Context
	events    *caddyevents.App
}

// Enter makes the emitter of a configuration, which is used as soon as the configuration
// has started.
func (a *EventAnnouncer) Enter(ctx caddy.Context) (*Emitter, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	e := &Emitter{a, ctx, app.(*caddyevents.App)}
	return e, errors.Join(e.events.On("started", e), e.events.On("stopping", e))
}

// Handle is called when the configuration has started, and when it is about to stop.
func (e *Emitter) Handle(_ context.Context, event caddy.Event) error {
	if event.Name() == "stopping" {
		if e.announcer.ending != nil {
			e.announcer.ending()
		}
		return nil
	}
	e.announcer.enter(e)
	if e.announcer.begun != nil {
		e.announcer.begun()
	}
	return nil
}

func (a *EventAnnouncer) enter(e *Emitter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = append(a.started, e)
	a.emit()
}

// Leave ends an emitter.
func (a *EventAnnouncer) Leave(e *Emitter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = slices.DeleteFunc(a.started, func(s *Emitter) bool { return s == e })
}

// forget drops the waiting events, because the data plane has ended.
func (a *EventAnnouncer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = nil
}

// announce emits an event soon, after all earlier events. It does not wait for handlers.
// While Caddy ends it does nothing: that listeners close is then no event.
func (a *EventAnnouncer) announce(event vnicbridge.Event) {
	if caddy.Exiting() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, event)
	a.emit()
}

// emit starts the goroutine that emits waiting events, unless it runs.
func (a *EventAnnouncer) emit() {
	if !a.emitting {
		a.emitting = true
		go a.run()
	}
}

func (a *EventAnnouncer) run() {
	for {
		event, by := a.next()
		if by == nil {
			return
		}
		by.emit(event)
	}
}

// next takes the first waiting event, and returns its emitter; nil if no event can go.
func (a *EventAnnouncer) next() (event vnicbridge.Event, by *Emitter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 || len(a.started) == 0 {
		a.emitting = false
		return event, nil
	}
	event, a.waiting = a.waiting[0], a.waiting[1:]
	return event, a.started[len(a.started)-1]
}

func (e *Emitter) emit(event vnicbridge.Event) {
	e.events.Emit(e.ctx, "vnic."+string(event.Name), event.Data)
}

var _ caddyevents.Handler = (*Emitter)(nil)
