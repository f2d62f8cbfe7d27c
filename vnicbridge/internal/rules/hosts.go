package rules

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// gatewayAlias is the index of the alias of a bridge's gateway, or -1.
func (s *SegmentRules) gatewayAlias(bridge *BridgeRules) int {
	return slices.Index(s.Gateways, bridge.nic)
}

// preferredAlias is the index of the alias under which the segment best sees a host
// behind a bridge.
func (s *SegmentRules) preferredAlias(bridge *BridgeRules, host packet.Addr) int {
	if gateway := s.gatewayAlias(bridge); host == bridge.Gateway && gateway >= 0 {
		return gateway
	}
	return s.Aliases.preferred(host, len(s.Gateways))
}

// ClientAt is the host behind a bridge that the segment sees at an address, or NoAddr:
// the alias of many clients tells none of them.
func (s *SegmentRules) ClientAt(bridge *BridgeRules, address packet.Addr) packet.Addr {
	if s.Preserve {
		return address
	}
	if i := s.gatewayAlias(bridge); i >= 0 && s.Aliases.Addrs[i] == address {
		return bridge.Gateway
	}
	return packet.NoAddr
}

// RouterAt is the address under which the segment of a VNIC sees a router on the way to
// a host behind a NIC, which the segment sees as `host`: the router's own, if the segment
// sees hosts by theirs; else the alias that a client with the router's address would
// prefer, and never that of the host.
func (r *Ruleset) RouterAt(vnic, nic *iface.Iface, router, host packet.Addr) packet.Addr {
	segment, bridge := r.Segments[vnic], r.Bridges[nic]
	if segment == nil || bridge == nil {
		return host // one of the devices is about to go
	}
	if segment.Preserve && r.PossibleSource(router) {
		return router
	}
	preferred, reserved := segment.preferredAlias(bridge, router), len(segment.Gateways)
	for i := range segment.Aliases.Addrs {
		if alias := segment.Aliases.Addrs[segment.Aliases.probe(preferred, reserved, i)]; alias != host {
			return alias
		}
	}
	return host
}
