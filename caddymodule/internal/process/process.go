// Package process has what the process has once, while configurations come and go: the
// data plane, the configurations that live on it, the sockets on its segments, and what
// happened to all of them.
package process

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/upgrade"
	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// All configurations share these.
var (
	Plane = vnicbridge.New(vnicbridge.Options{
		Log: slog.New(Journal.Handler(logHandler{})), Happened: Announcer.announce, HashKey: HashKey.get,
		Predecessor: predecessor, Kept: Keeper.Kept,
	})
	Configurations = &Generations{plane: leaver{Plane}, applied: follow, exiting: caddy.Exiting}
	Sockets        = sites.NewSockets(Plane)
	Announcer      = new(EventAnnouncer)
	Journal        = new(journal.Journal)
	Proxies        = &ProxySet{living: make(map[*Proxy]struct{}), kept: make(map[*Proxy]struct{}), closing: make(map[string]bool)}
	HashKey        = new(HashSecret)
	Heir           = new(upgrade.Heir)
	Keeper         = new(upgrade.Keeper)
	Upgrade        = &upgrade.Upgrade{Plane: Plane, Sockets: Sockets, Keeper: Keeper}
)

func init() {
	Heir.Sockets, Heir.Keeper = Sockets, Keeper
	Keeper.Plane, Keeper.Sockets = Plane, Sockets
	Keeper.DiscardUnused()
	Announcer.begun, Announcer.ending = confirm, leaveSockets
}

// predecessor returns the process before, if it goes on, or what it has left.
func predecessor() (vnicbridge.Predecessor, error) {
	if p, err := Heir.Predecessor(); p != nil || err != nil {
		return p, err
	}
	return Keeper.Predecessor()
}

// confirm tells a predecessor, if there is one, that this process's configuration has started.
func confirm() {
	if err := errors.Join(Heir.Ready(Plane), Keeper.Ready()); err != nil {
		caddy.Log().Named("vnic").Error("taking over from the process before", zap.Error(err))
	}
}

// leaveSockets lets connections wait for the next process, before the servers shut down.
func leaveSockets() {
	if caddy.Exiting() {
		Keeper.Leave()
	}
}

// leaver is the plane, of which the keeper writes the last note.
type leaver struct{ *vnicbridge.Plane }

func (l leaver) Leave() error {
	Keeper.Write()
	return l.Plane.Leave()
}

// follow lets the sockets that outlive a reload follow their segments.
func follow(cfg *config.Config) {
	if len(cfg.Segments) == 0 {
		Announcer.forget()
	}
	ctx, log := context.Background(), caddy.Log().Named("vnic")
	err := Sockets.Readdress(ctx, func(segment string) (addrs []netip.Addr, netns string, ok bool) {
		s, ok := cfg.Segments[segment]
		if !ok {
			return nil, "", false
		}
		return s.OwnAddrs(), s.Netns, true
	})
	if err != nil {
		log.Error("moving UDP listeners to their segments' new addresses", zap.Error(err))
	}
	for segment := range cfg.Segments { // of a predecessor
		switch state := Plane.State(segment); {
		case Sockets.IsLeaving(segment):
		case state == config.Stopped:
			Sockets.Stop(segment)
		case state == config.Draining:
			Sockets.Drain(segment)
		}
	}
	for _, segment := range Sockets.Leaving() {
		if Plane.State(segment) != config.Active {
			continue
		}
		// The segment was removed. A new segment of the same name begins as active.
		if err := Sockets.Start(ctx, segment); err != nil {
			log.Error("opening the listeners of a segment that is active again", zap.String("segment", segment), zap.Error(err))
		}
	}
}
