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

// What outlives a configuration: the data plane with its generations, and the
// sockets on its segments.
var (
	living = &generations{open: openPlane, applied: readdress}
	socket = sites.NewSockets(sharedPlane{})
)

func openPlane() plane {
	return vnicbridge.New(vnicbridge.Options{Log: slog.New(logHandler{})})
}

// readdress lets the sockets that outlive a reload follow their segments.
func readdress(cfg *vnicbridge.Config) {
	err := socket.Readdress(context.Background(), func(segment string) (netip.Addr, bool) {
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

// sharedPlane is whichever plane there is at each call. Caddy's QUIC listeners
// can outlive one and go on with the next.
type sharedPlane struct{}

func (sharedPlane) OpenPort(segment string, port vnicbridge.PortRange) (release func()) {
	if p, ok := living.inForce(); ok {
		return p.OpenPort(segment, port)
	}
	return func() {}
}

func (sharedPlane) Client(proto vnicbridge.Protocol, local, remote netip.AddrPort) (netip.AddrPort, bool) {
	if p, ok := living.inForce(); ok {
		return p.Client(proto, local, remote)
	}
	return netip.AddrPort{}, false
}

func (sharedPlane) Alias(proto vnicbridge.Protocol, local, client netip.AddrPort) (netip.AddrPort, bool) {
	if p, ok := living.inForce(); ok {
		return p.Alias(proto, local, client)
	}
	return netip.AddrPort{}, false
}
