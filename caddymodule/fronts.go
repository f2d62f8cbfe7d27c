package caddymodule

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// fronts is what the modules of one configuration tell each other about its HTTP
// servers, while they are provisioned one after the other.
type fronts struct {
	ctx      caddy.Context
	proxied  map[string]bool            // segments that a vnic_proxy sends requests to
	trusting map[*caddyhttp.Server]bool // those with trusted_proxies vnic

	started chan struct{} // closed when all apps of the configuration have started
	once    sync.Once
}

// provision asks to be told when the configuration runs.
func (f *fronts) provision(ctx caddy.Context) error {
	f.ctx = ctx
	f.proxied = make(map[string]bool)
	f.trusting = make(map[*caddyhttp.Server]bool)
	f.started = make(chan struct{})
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	return events.(*caddyevents.App).On("started", f)
}

// Handle is called when all apps have started.
func (f *fronts) Handle(context.Context, caddy.Event) error {
	f.once.Do(func() { close(f.started) })
	http, err := f.ctx.AppIfConfigured("http")
	if err != nil {
		return nil // no servers
	}
	for name, server := range http.(*caddyhttp.App).Servers {
		for _, segment := range segmentsOf(server) {
			if f.proxied[segment] && !f.trusting[server] {
				f.ctx.Logger().Warn("this server does not trust the front that sends it requests, and takes it for the client: add `trusted_proxies vnic` to the global option servers",
					zap.String("server", name), zap.String("segment", segment))
			}
		}
	}
	return nil
}

// segmentsOf names the segments that a server listens on.
func segmentsOf(server *caddyhttp.Server) (segments []string) {
	for _, address := range server.Listen {
		network, host, _, err := caddy.SplitNetworkAddress(address)
		if err == nil && network == "vnic" && !slices.Contains(segments, host) {
			segments = append(segments, host)
		}
	}
	return segments
}
