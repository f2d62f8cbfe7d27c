// Package listenaddr reads the addresses that servers listen on: which segments and ports
// they name, as in vnic/a:80.
package listenaddr

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// ErrNoSegments says that a configuration has no segments.
var ErrNoSegments = errors.New("the configuration has no segments: add the global option vnic")

// Check returns what is wrong with an address that names a segment, or that was meant to.
func Check(config *config.Config, address string) error {
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
func CheckSegment(cfg *config.Config, name string) error {
	if len(cfg.Segments) == 0 {
		return ErrNoSegments
	}
	if _, ok := cfg.Segments[name]; !ok {
		return config.UnknownSegment(name, slices.Sorted(maps.Keys(cfg.Segments)))
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
func TCPPorts(addresses []string) map[string][]config.PortRange {
	ports := make(map[string][]config.PortRange)
	repl := caddy.NewReplacer()
	for _, address := range addresses {
		at, err := caddy.ParseNetworkAddress(repl.ReplaceAll(address, ""))
		if err == nil && at.Network == "vnic" {
			ports[at.Host] = append(ports[at.Host], config.PortRange{Protocol: config.TCP, First: uint16(at.StartPort), Last: uint16(at.EndPort)})
		}
	}
	return ports
}
