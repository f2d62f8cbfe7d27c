package caddymodule

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// What outlives a configuration: the data plane, the configurations that live on
// it, the sockets on its segments, and what happened to all of them.
var (
	plane = vnicbridge.New(vnicbridge.Options{
		Log: slog.New(events.handler(logHandler{})), HealthChanged: announcements.announce, HashKey: secret.get,
	})
	living        = &generations{plane: plane, applied: follow, exiting: caddy.Exiting}
	sockets       = sites.NewSockets(plane)
	announcements = new(announcer)
	events        = new(journal)
	proxies       = &proxySet{living: make(map[*Proxy]struct{}), kept: make(map[*Proxy]struct{}), closing: make(map[string]bool)}
	secret        = new(hashSecret)
)

// follow lets the sockets that outlive a reload follow their segments.
func follow(cfg *vnicbridge.Config) {
	if len(cfg.Segments) == 0 {
		announcements.forget()
	}
	ctx, log := context.Background(), caddy.Log().Named("vnic")
	err := sockets.Readdress(ctx, func(segment string) (addr netip.Addr, netns string, ok bool) {
		s, ok := cfg.Segments[segment]
		if !ok {
			return addr, netns, false
		}
		return s.Addresses[0].Addr(), s.Netns, true
	})
	if err != nil {
		log.Error("moving UDP listeners to their segments' new addresses", zap.Error(err))
	}
	for _, segment := range sockets.Leaving() {
		if plane.State(segment) != vnicbridge.Active {
			continue
		}
		// The segment is gone for good; one of the same name begins anew.
		if err := sockets.Start(ctx, segment); err != nil {
			log.Error("opening the listeners of a segment that is active again", zap.String("segment", segment), zap.Error(err))
		}
	}
}
