package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/listenaddr"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// provisionServers checks where the configuration's HTTP servers listen, because Caddy
// itself would report a mistake only at the start. It lets the stop of a segment
// close the servers' idle connections, and resolves `steer sites`. It may provision the http app, whose modules may
// look up this app; so this app must be complete by then.
func (a *App) provisionServers(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	a.fronts.sites = sitesOf(app.(*caddyhttp.App))
	a.ResolveSites(a.fronts.sites)
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

// sitesOf returns what the HTTP servers serve by host name on segments. Caddy has decoded the
// routes' matchers, and has added its redirects to HTTPS, before it provisions a module that can
// look up this app.
func sitesOf(app *caddyhttp.App) []config.Site {
	var servers []listenaddr.Server
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		server := app.Servers[name]
		site := listenaddr.Server{Listen: server.Listen, TLS: len(server.TLSConnPolicies) > 0}
		for _, route := range server.Routes {
			for _, matchers := range route.MatcherSets {
				site.Hosts = append(site.Hosts, hostsOf(matchers)...)
			}
		}
		servers = append(servers, site)
	}
	return listenaddr.Sites(servers, uint16(cmp.Or(app.HTTPPort, caddyhttp.DefaultHTTPPort)))
}

// hostsOf returns the host names of a route's matchers. A redirect to HTTPS, which matches the
// protocol too, has none, because it may stand in a server that also listens on other segments
// than its site does.
func hostsOf(matchers caddyhttp.MatcherSet) (hosts []string) {
	for _, matcher := range matchers {
		switch m := matcher.(type) {
		case caddyhttp.MatchProtocol, *caddyhttp.MatchProtocol:
			return nil
		case caddyhttp.MatchHost:
			hosts = append(hosts, m...)
		case *caddyhttp.MatchHost:
			hosts = append(hosts, *m...)
		}
	}
	return hosts
}

// handOver lets the next configuration's servers take over before Caddy stops those of this
// one. Caddy calls it when the next configuration has started.
type handOver struct{}

// Handle implements [caddyevents.Handler].
func (handOver) Handle(context.Context, caddy.Event) error {
	process.Sockets.HandOver()
	return nil
}
