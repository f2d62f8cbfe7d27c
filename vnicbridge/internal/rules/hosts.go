package rules

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// gatewayAlias returns the index of the alias of a bridge's gateway, or -1.
func (s *SegmentRules) gatewayAlias(bridge *BridgeRules) int {
	return slices.Index(s.Gateways, bridge.nic)
}

// keepsAddress tells whether the segment sees a host under the host's own address. An IPv6
// link-local address means nothing on the segment's link.
func (s *SegmentRules) keepsAddress(host packet.Addr) bool {
	return s.Preserve && !(host.IsIPv6() && host.Netip().IsLinkLocalUnicast())
}

// preferredAlias returns the index of the alias that is tried first for a host behind a
// bridge.
func (s *SegmentRules) preferredAlias(bridge *BridgeRules, host packet.Addr) int {
	if gateway := s.gatewayAlias(bridge); host == bridge.Gateway && gateway >= 0 {
		return gateway
	}
	return s.Aliases.preferred(host, len(s.Gateways))
}

// ClientAt returns the host behind a bridge that the segment sees under an address. It
// returns NoAddr if the address is an alias that many clients share.
func (s *SegmentRules) ClientAt(bridge *BridgeRules, address packet.Addr) packet.Addr {
	if i := s.gatewayAlias(bridge); i >= 0 && s.Aliases.Addrs[i] == address && !s.keepsAddress(bridge.Gateway) {
		return bridge.Gateway
	}
	if s.keepsAddress(address) {
		return address
	}
	return packet.NoAddr
}

// RouterAt returns the address under which the segment of a VNIC sees a router on the way to
// a host behind a NIC. host is the address under which the segment sees that host. If the
// segment sees clients under their own addresses, it sees the router's too. Otherwise it
// sees the alias that a client with the router's address prefers, or the next one if that
// is host.
func (r *Ruleset) RouterAt(vnic, nic *iface.Iface, router, host packet.Addr) packet.Addr {
	segment, bridge := r.Segments[vnic], r.Bridges[nic]
	if segment == nil || bridge == nil {
		return host // one of the devices is about to go
	}
	if segment.keepsAddress(router) && r.PossibleSource(router) {
		return router
	}
	if segment.Aliases.prefix != nil {
		return segment.derivedRouter(bridge, router, host)
	}
	preferred, reserved := segment.preferredAlias(bridge, router), len(segment.Gateways)
	for i := range segment.Aliases.Addrs {
		if alias := segment.Aliases.Addrs[segment.Aliases.probe(preferred, reserved, i)]; alias != host {
			return alias
		}
	}
	return host
}

// derivedRouter is RouterAt for a segment whose aliases are derived.
func (s *SegmentRules) derivedRouter(bridge *BridgeRules, router, host packet.Addr) packet.Addr {
	if i := s.gatewayAlias(bridge); router == bridge.Gateway && i >= 0 && s.Aliases.Addrs[i] != host {
		return s.Aliases.Addrs[i]
	}
	if alias := s.Aliases.derive(router, 0); alias != host {
		return alias
	}
	return s.Aliases.derive(router, 1)
}
