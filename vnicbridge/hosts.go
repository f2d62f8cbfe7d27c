package vnicbridge

import "slices"

// gatewayAlias is the index of the alias of a bridge's gateway, or -1.
func (s *segmentRules) gatewayAlias(bridge *bridgeRules) int {
	return slices.Index(s.gateways, bridge.nic)
}

// preferredAlias is the index of the alias under which the segment best sees a host
// behind a bridge.
func (s *segmentRules) preferredAlias(bridge *bridgeRules, host addr) int {
	if gateway := s.gatewayAlias(bridge); host == bridge.gateway && gateway >= 0 {
		return gateway
	}
	return s.aliases.preferred(host, len(s.gateways))
}

// clientAt is the host behind a bridge that the segment sees at an address, or noAddr:
// the alias of many clients tells none of them.
func (s *segmentRules) clientAt(bridge *bridgeRules, address addr) addr {
	if s.preserve {
		return address
	}
	if i := s.gatewayAlias(bridge); i >= 0 && s.aliases.addrs[i] == address {
		return bridge.gateway
	}
	return noAddr
}

// routerAt is the address under which the segment of a VNIC sees a router on the way to
// a host behind a NIC, which the segment sees as `host`: the router's own, if the segment
// sees hosts by theirs; else the alias that a client with the router's address would
// prefer, and never that of the host.
func (r *ruleset) routerAt(vnic, nic *port, router, host addr) addr {
	segment, bridge := r.segments[vnic], r.bridges[nic]
	if segment == nil || bridge == nil {
		return host // one of the devices is about to go
	}
	if segment.preserve && r.possibleSource(router) {
		return router
	}
	preferred, reserved := segment.preferredAlias(bridge, router), len(segment.gateways)
	for i := range segment.aliases.addrs {
		if alias := segment.aliases.addrs[segment.aliases.probe(preferred, reserved, i)]; alias != host {
			return alias
		}
	}
	return host
}
