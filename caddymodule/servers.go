package caddymodule

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/listenaddr"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
)

// provisionServers checks where the configuration's HTTP servers listen, because Caddy
// itself would report a mistake only at the start. It also lets the stop of a segment
// close the servers' idle connections. It may provision the http app, whose modules may
// look up this app; so this app must be complete by then.
func (a *App) provisionServers(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	onSegments := false
	for _, server := range app.(*caddyhttp.App).Servers {
		for _, address := range server.Listen {
			if err := listenaddr.Check(&a.Config, address); err != nil {
				return fmt.Errorf("listening on %s: %w", address, err)
			}
		}
		if len(listenaddr.Segments(server.Listen)) > 0 {
			server.RegisterConnState(process.Sockets.ConnState)
			server.RegisterConnContext(process.Sockets.ConnContext)
			onSegments = true
		}
	}
	if !onSegments {
		return nil
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	return events.(*caddyevents.App).On("stopping", handOver{})
}

// handOver lets the next configuration's servers take over before Caddy stops those of this
// one. Caddy calls it when the next configuration has started.
type handOver struct{}

// Handle implements [caddyevents.Handler].
func (handOver) Handle(context.Context, caddy.Event) error {
	process.Sockets.HandOver()
	return nil
}
