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
// it, and the sockets on its segments.
var (
	plane   = vnicbridge.New(vnicbridge.Options{Log: slog.New(logHandler{})})
	living  = &generations{plane: plane, applied: readdress}
	sockets = sites.NewSockets(plane)
)

// readdress lets the sockets that outlive a reload follow their segments.
func readdress(cfg *vnicbridge.Config) {
	err := sockets.Readdress(context.Background(), func(segment string) (netip.Addr, bool) {
		s, ok := cfg.Segments[segment]
		if !ok {
			return netip.Addr{}, false
		}
		return s.Addresses[0].Addr(), true
	})
	if err != nil {
		caddy.Log().Named("vnic").Error("moving UDP listeners to their segments' new addresses", zap.Error(err))
	}
}
