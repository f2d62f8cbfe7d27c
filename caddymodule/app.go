package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

func init() { caddy.RegisterModule(new(App)) }

// App joins network cards (NICs) to isolated network segments inside this
// machine. Each segment has a virtual NIC (VNIC) and an address of its own; each
// bridge makes one NIC answer for one pseudo address, and gives every new flow to
// a segment. Servers on a segment listen on the network `vnic/<segment>`.
//
// It needs Linux with /dev/net/tun, and the capabilities CAP_NET_ADMIN and
// CAP_NET_RAW; CAP_BPF and CAP_PERFMON, too, to carry packets in the kernel, and
// CAP_SYS_ADMIN for segments with a `netns`. Values are taken as they stand: there
// are no placeholders.
type App struct {
	vnicbridge.Config

	// up puts the configuration in force, once; what it returned, it returns
	// again.
	up func() error

	fronts fronts
	events *emitter
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "vnic", New: func() caddy.Module { return new(App) }}
}

// Provision prepares the app. It touches nothing of the machine, so that `caddy
// validate` does not either.
func (a *App) Provision(ctx caddy.Context) error {
	if err := a.Validate(); err != nil { // other apps' modules look at it before Caddy asks
		return err
	}
	a.up = sync.OnceValue(func() error {
		secret.keepIn(ctx.Storage())
		return living.push(&a.Config)
	})
	for _, name := range a.unreachable() {
		ctx.Logger().Warn("no bridge steers to this segment, and no segment may reach it: nothing from outside reaches it", zap.String("segment", name))
	}
	if err := a.provisionChallenges(ctx); err != nil {
		return err
	}
	if err := a.fronts.provision(ctx); err != nil {
		return err
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	var err error
	if a.events, err = newEmitter(ctx, announcements); err != nil {
		return err
	}
	return trackIdle(ctx)
}

// Start puts the configuration in force, unless a listener has done it already.
func (a *App) Start() error { return a.up() }

// Stop does nothing: the servers of this configuration may still be finishing
// their responses through the VNICs. Cleanup follows when all apps have stopped.
func (a *App) Stop() error { return nil }

// Cleanup takes the configuration back. It is called for one that never came
// into force, too.
func (a *App) Cleanup() error {
	announcements.leave(a.events)
	return living.remove(&a.Config)
}

// segment finds the segment that a listener names.
func (a *App) segment(name string) (*vnicbridge.Segment, error) {
	if s, ok := a.Segments[name]; ok {
		return s, nil
	}
	return nil, vnicbridge.UnknownSegment(name, slices.Sorted(maps.Keys(a.Segments)))
}

// address is a segment's own address.
func (a *App) address(segment string) netip.Addr { return a.Segments[segment].Addresses[0].Addr() }

// unreachable lists the segments that neither a bridge nor a segment names.
func (a *App) unreachable() []string {
	named := make(map[string]bool)
	for _, b := range a.Bridges {
		for _, rule := range b.Steer {
			named[rule.Segment] = true
		}
		if b.LBPolicy != nil {
			for _, name := range b.LBPolicy.Segments {
				named[name] = true
			}
		}
	}
	for _, s := range a.Segments {
		for _, name := range s.Reach {
			named[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(a.Segments))
	return slices.DeleteFunc(names, func(name string) bool { return named[name] })
}

// appOf is the app of the configuration that a Caddy context belongs to.
func appOf(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("vnic")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errors.New("the configuration has no segments: add the global option vnic")
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
