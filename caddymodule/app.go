package caddymodule

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/listenaddr"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/metrics"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/tested"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func init() { caddy.RegisterModule(new(App)) }

// App joins network cards (NICs) to isolated network segments inside this
// machine. Each segment has a virtual NIC (VNIC) and its own address. Each bridge
// makes one NIC answer for one pseudo address, and gives every new flow to a
// segment. Servers on a segment listen on the network `vnic/<segment>`.
//
// The app needs Linux with /dev/net/tun, and the capabilities CAP_NET_ADMIN and
// CAP_NET_RAW. To carry packets in the kernel it also needs CAP_BPF and CAP_PERFMON, and
// for segments with a `netns` CAP_SYS_ADMIN. Values cannot contain placeholders.
type App struct {
	config.Config

	// up puts the configuration in force. Only the first call does so; later calls
	// return the first call's result.
	up func() error

	fronts fronts
	events *process.Emitter
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "vnic", New: func() caddy.Module { return new(App) }}
}

// Provision prepares the app. It changes nothing on the machine, because `caddy validate`
// calls it, too.
func (a *App) Provision(ctx caddy.Context) error {
	if err := a.Validate(); err != nil { // before Caddy does, because modules of other apps read the configuration first
		return err
	}
	a.up = sync.OnceValue(func() error {
		process.HashKey.KeepIn(ctx.Storage())
		return process.Configurations.Push(&a.Config)
	})
	if err := a.provisionChallenges(ctx); err != nil {
		return err
	}
	if err := a.fronts.provision(ctx, &a.Config); err != nil {
		return err
	}
	if err := metrics.Register(ctx.GetMetricsRegistry(), process.Plane.Status); err != nil {
		return err
	}
	var err error
	if a.events, err = process.Announcer.Enter(ctx); err != nil {
		return err
	}
	return a.provisionServers(ctx)
}

// untested says why the lean proxy and package http1 are not used; nil if they are.
var untested = tested.Build()

// Start puts the configuration in force, unless a listener has already done so.
func (a *App) Start() error {
	if untested != nil && len(a.fronts.proxied) > 0 {
		a.fronts.ctx.Logger().Warn("reverse_proxy and net/http serve all requests of vnic_proxy", zap.NamedError("because", untested))
	}
	return a.up()
}

// Stop does nothing, because the servers of this configuration may still finish
// responses through the VNICs. Caddy calls Cleanup when all apps have stopped.
func (a *App) Stop() error { return nil }

// Cleanup takes the configuration out of force. Caddy also calls it for a configuration
// that never came into force.
func (a *App) Cleanup() error {
	process.Announcer.Leave(a.events)
	return process.Configurations.Remove(&a.Config)
}

// segment returns the segment that a listener names.
func (a *App) segment(name string) (*config.Segment, error) {
	return a.Segments[name], listenaddr.CheckSegment(&a.Config, name)
}

// address returns a segment's own address: the IPv4 address, if it has one.
func (a *App) address(segment string) netip.Addr {
	s := a.Segments[segment]
	if own := s.Address(config.IPv4); own.IsValid() {
		return own.Addr()
	}
	return s.Address(config.IPv6).Addr()
}

// appOf returns the app of the configuration that a Caddy context belongs to.
func appOf(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("vnic")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, listenaddr.ErrNoSegments
	}
	if err != nil {
		return nil, fmt.Errorf("vnic: %w", err)
	}
	return app.(*App), nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
