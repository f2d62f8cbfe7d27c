// Package listenaddr reads the addresses that servers listen on: which segments and ports
// they name, as in vnic/a:80.
package listenaddr

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// ErrNoSegments says that a configuration has no segments.
var ErrNoSegments = errors.New("the configuration has no segments: add the global option vnic")

// Check returns what is wrong with an address that names a segment, or that was meant to.
func Check(config *vnicbridge.Config, address string) error {
	address, err := caddy.NewReplacer().ReplaceOrErr(address, true, true)
	if err != nil {
		return nil // Caddy knows the placeholder's value at the start
	}
	network, host, _, err := caddy.SplitNetworkAddress(address)
	if err != nil {
		return nil // Caddy reports this error itself
	}
	if network == "vnic" || network == "vnic+udp" {
		return CheckSegment(config, host)
	}
	for _, name := range slices.Sorted(maps.Keys(config.Segments)) {
		if host == config.Segments[name].InterfaceName(name) {
			return fmt.Errorf("%s is no address, but the VNIC of segment %s: use `bind vnic/%s`", host, name, name)
		}
	}
	return nil
}

// CheckSegment returns an error if a configuration lacks a segment.
func CheckSegment(config *vnicbridge.Config, name string) error {
	if len(config.Segments) == 0 {
		return ErrNoSegments
	}
	if _, ok := config.Segments[name]; !ok {
		return vnicbridge.UnknownSegment(name, slices.Sorted(maps.Keys(config.Segments)))
	}
	return nil
}

// Segments returns the names of the segments that addresses are on.
func Segments(addresses []string) (segments []string) {
	for _, address := range addresses {
		network, host, _, err := caddy.SplitNetworkAddress(address)
		if err == nil && network == "vnic" && !slices.Contains(segments, host) {
			segments = append(segments, host)
		}
	}
	return segments
}

// TCPPorts returns the TCP ports of the addresses that are on segments, by segment.
func TCPPorts(addresses []string) map[string][]vnicbridge.PortRange {
	ports := make(map[string][]vnicbridge.PortRange)
	for _, address := range addresses {
		at, err := caddy.ParseNetworkAddress(address)
		if err == nil && at.Network == "vnic" {
			ports[at.Host] = append(ports[at.Host], vnicbridge.PortRange{Protocol: vnicbridge.TCP, First: uint16(at.StartPort), Last: uint16(at.EndPort)})
		}
	}
	return ports
}
