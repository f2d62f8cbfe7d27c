package caddymodule

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/listenaddr"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// fronts holds what the modules of one configuration tell each other about its servers.
// Caddy provisions and starts the modules one after the other.
type fronts struct {
	ctx      caddy.Context
	config   *config.Config
	proxied  map[string]bool            // the segments that a vnic_proxy sends requests to
	trusting map[*caddyhttp.Server]bool // the servers with trusted_proxies vnic
	sites    []config.Site              // what the servers serve by host name

	started chan struct{} // closed when all apps of the configuration have started
	once    sync.Once

	mu     sync.Mutex
	listen map[string][]config.PortRange // what listeners have opened, by segment
}

// provision subscribes to the start of the configuration.
func (f *fronts) provision(ctx caddy.Context, cfg *config.Config) error {
	f.ctx, f.config = ctx, cfg
	f.listen = make(map[string][]config.PortRange)
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
	var servers map[string]*caddyhttp.Server
	if http, err := f.ctx.AppIfConfigured("http"); err == nil {
		servers = http.(*caddyhttp.App).Servers
	}
	for _, finding := range f.config.Unserved(f.listenBut(servers[redirects]), f.sites) {
		f.ctx.Logger().Warn(finding)
	}
	for name, server := range servers {
		for _, segment := range listenaddr.Segments(server.Listen) {
			if f.proxied[segment] && !f.trusting[server] {
				f.ctx.Logger().Warn("this server does not trust the front that sends it requests, so it takes the front for the client: add `trusted_proxies vnic` to the global option servers",
					zap.String("server", name), zap.String("segment", segment))
			}
		}
	}
	return nil
}

// waitStarted waits until the configuration has started. A configuration that has started
// and ended is no error, because its servers still answer the requests that they have.
func (f *fronts) waitStarted(ctx context.Context, config caddy.Context) error {
	select {
	case <-f.started:
		return nil
	default:
	}
	select {
	case <-f.started:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-config.Done():
		return context.Cause(config)
	}
}

// redirects names the server that Caddy adds for redirects to HTTPS if no site of the
// configuration listens on the HTTP port. The administrator did not ask for this server,
// so its port needs no warning.
const redirects = "remaining_auto_https_redirects"

// opened records that the configuration has opened a listener on a segment.
func (f *fronts) opened(segment string, proto config.Protocol, port uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listen[segment] = append(f.listen[segment], config.PortRange{Protocol: proto, First: port, Last: port})
}

// listenBut returns the ports of all servers except one, which may be nil.
func (f *fronts) listenBut(server *caddyhttp.Server) map[string][]config.PortRange {
	f.mu.Lock()
	defer f.mu.Unlock()
	listen := maps.Clone(f.listen)
	if server == nil {
		return listen
	}
	for segment, ports := range listenaddr.TCPPorts(server.Listen) {
		listen[segment] = slices.DeleteFunc(slices.Clone(listen[segment]), func(r config.PortRange) bool { return slices.Contains(ports, r) })
	}
	return listen
}
