package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// The network type `vnic/<segment>` is TCP on a segment's addresses. The type
// `vnic+udp/<segment>` is UDP there; Caddy uses it for HTTP/3.
func init() {
	caddy.RegisterNetwork("vnic", func(ctx context.Context, _, segment, ports string, offset uint, cfg net.ListenConfig) (any, error) {
		at, err := site(ctx, segment, config.TCP, ports, offset)
		if err != nil {
			return nil, err
		}
		listener, err := process.Sockets.Listen(ctx, at, cfg)
		return listener, explainListen(err, at)
	})
	caddy.RegisterNetwork("vnic+udp", func(ctx context.Context, _, segment, ports string, offset uint, cfg net.ListenConfig) (any, error) {
		at, err := site(ctx, segment, config.UDP, ports, offset)
		if err != nil {
			return nil, err
		}
		conn, err := process.Sockets.ListenPacket(ctx, at, cfg)
		return conn, explainListen(err, at)
	})
	caddyhttp.RegisterNetworkHTTP3("vnic", "vnic+udp")
}

// site returns where a listener for a segment belongs. Caddy starts apps in random order,
// so site first puts the configuration in force, unless that is done.
func site(ctx context.Context, segment string, proto config.Protocol, ports string, offset uint) (sites.Address, error) {
	config, ok := ctx.(caddy.Context)
	if !ok {
		return sites.Address{}, fmt.Errorf("vnic/%s: only an app of the configuration can listen on a segment", segment)
	}
	app, err := appOf(config)
	if err != nil {
		return sites.Address{}, err
	}
	s, err := app.segment(segment)
	if err != nil {
		return sites.Address{}, err
	}
	if s.Remote() {
		return sites.Address{}, fmt.Errorf("vnic/%s: the server of segment %s is behind device %s, so nothing on this machine can listen there: bind the site to another segment, or take the device away", segment, segment, s.Device)
	}
	port, err := nthPort(ports, offset)
	if err != nil {
		return sites.Address{}, err
	}
	if err := app.up(); err != nil {
		return sites.Address{}, err
	}
	app.fronts.opened(segment, proto, port)
	return sites.Address{Segment: segment, Netns: s.Netns, Addrs: s.OwnAddrs(), Port: port, Started: app.fronts.started}, nil
}

// explainListen says which program can have taken a segment's port.
func explainListen(err error, at sites.Address) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("segment %s: port %d: %w: another program listens on this port, maybe on all addresses: bind that program to one address (ss -lnp 'sport = :%d' shows it)", at.Segment, at.Port, err, at.Port)
	}
	return err
}

// nthPort returns the port at an offset in a range such as "8000-8099".
func nthPort(ports string, offset uint) (uint16, error) {
	first, _, _ := strings.Cut(ports, "-")
	start, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q: %w", ports, err)
	}
	port := start + uint64(offset)
	if port > 65535 {
		return 0, fmt.Errorf("port %s: ports end at 65535", ports)
	}
	if port == 0 {
		return 0, errors.New("port 0: a segment's port must be known, because clients reach it under the same number: name it, as in vnic/a:80")
	}
	return uint16(port), nil
}
