package process

import (
	"context"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// The events of segments that become unhealthy, and healthy again. Both carry
// segment, its name; segment_down carries reason, too.
const (
	eventUp   = "vnic.segment_up"
	eventDown = "vnic.segment_down"
)

// HealthAnnouncer emits events about the data plane by the configuration that has
// started last: handlers subscribe while apps start, in any order. Before one has
// started, events wait.
type HealthAnnouncer struct {
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

// Handle is told that the configuration has started.
func (e *Emitter) Handle(context.Context, caddy.Event) error {
	e.announcer.mu.Lock()
	defer e.announcer.mu.Unlock()
	e.announcer.started = append(e.announcer.started, e)
	e.announcer.emit()
	return nil
}

// Leave ends an emitter. After the last one, nobody waits for events.
func (a *HealthAnnouncer) Leave(e *Emitter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = slices.DeleteFunc(a.started, func(s *Emitter) bool { return s == e })
}

// forget drops what waits, because the data plane has ended.
func (a *HealthAnnouncer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = nil
}

// announce emits an event soon, after those before it. It does not wait for
// handlers. That listeners close because Caddy ends is no event.
func (a *HealthAnnouncer) announce(c vnicbridge.HealthChange) {
	if caddy.Exiting() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, c)
	a.emit()
}

// emit lets one goroutine emit what waits.
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

// next takes the first event that waits, and who emits it. Nobody: that is all.
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
