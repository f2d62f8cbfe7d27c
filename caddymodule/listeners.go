package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

var errNoSegments = errors.New("the configuration has no segments: add the global option vnic")

// provisionServers checks where the configuration's HTTP servers listen, which Caddy
// itself would find out at the start alone, and lets a segment's stop close their
// idle connections. It may have the http app provisioned, whose modules may ask for
// this app, which must be complete by then.
func (a *App) provisionServers(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		for _, address := range server.Listen {
			if err := checkListener(&a.Config, address); err != nil {
				return fmt.Errorf("listening on %s: %w", address, err)
			}
		}
		if len(segmentsOf(server)) > 0 {
			server.RegisterConnState(sockets.ConnState)
			server.RegisterConnContext(sockets.ConnContext)
		}
	}
	return nil
}

// checkListener tells what is wrong with the address of a listener that is on a
// segment, or was meant to be.
func checkListener(config *vnicbridge.Config, address string) error {
	address, err := caddy.NewReplacer().ReplaceOrErr(address, true, true)
	if err != nil {
		return nil // it is known at the start
	}
	network, host, _, err := caddy.SplitNetworkAddress(address)
	if err != nil {
		return nil // Caddy says so itself
	}
	if isSegmentNetwork(network) {
		return knownSegment(config, host)
	}
	for _, name := range sortedKeys(config.Segments) {
		if host == config.Segments[name].InterfaceName(name) {
			return fmt.Errorf("%s is no address, but the VNIC of segment %s: use `bind vnic/%s`", host, name, name)
		}
	}
	return nil
}

func isSegmentNetwork(network string) bool { return network == "vnic" || network == "vnic+udp" }

// knownSegment tells whether a configuration has the segment that a listener names.
func knownSegment(config *vnicbridge.Config, name string) error {
	if len(config.Segments) == 0 {
		return errNoSegments
	}
	if _, ok := config.Segments[name]; !ok {
		return vnicbridge.UnknownSegment(name, slices.Sorted(maps.Keys(config.Segments)))
	}
	return nil
}

// segmentPorts are the TCP ports of addresses that are on segments, by segment.
func segmentPorts(addresses []string) map[string][]vnicbridge.PortRange {
	ports := make(map[string][]vnicbridge.PortRange)
	for _, address := range addresses {
		at, err := caddy.ParseNetworkAddress(address)
		if err == nil && at.Network == "vnic" {
			ports[at.Host] = append(ports[at.Host], vnicbridge.PortRange{Protocol: vnicbridge.TCP, First: uint16(at.StartPort), Last: uint16(at.EndPort)})
		}
	}
	return ports
}
