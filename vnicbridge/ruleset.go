package vnicbridge

import (
	"net/netip"
	"slices"
)

// ruleset is a configuration compiled for the data path: immutable, replaced as
// a whole. New flows are judged by it; living flows do not look at it.
type ruleset struct {
	bridges  map[*port]*bridgeRules  // by the NIC's port
	segments map[*port]*segmentRules // by the VNIC's port

	// All the ports, those of retired devices too.
	nics, vnics []*port
	vnicsOf     map[string][]*port // the VNICs by their segments' names

	// Addresses that nobody outside can have (S1).
	impossible []netip.Prefix
}

type bridgeRules struct {
	decisions *decisionTable
	gateway   addr // noAddr if there is none
	refuse    OnNoSegment
}

type segmentRules struct {
	aliases  *aliasPool
	preserve bool        // clients are seen under their own addresses
	ports    []PortRange // nil: those that listeners opened
	egress   Egress
	gateways []*port            // the NICs whose gateways the first aliases stand for, in order
	reach    map[addr]reachRule // the segments that it may open flows to, by their aliases
}

// reachRule is the way from a segment to another.
type reachRule struct {
	to    *port
	alias addr // under which the other segment sees this one
}

// gatewayAlias is the index of the alias of a NIC's gateway, or -1.
func (s *segmentRules) gatewayAlias(nic *port) int {
	return slices.Index(s.gateways, nic)
}

// neverOutside are the sources that no host on a network can have: this network
// (0/8), loopback, multicast and broadcast (RFC 6890). 240/4 is reserved, and in use.
var neverOutside = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
}

// possibleSource tells whether a host outside can have an address.
func (r *ruleset) possibleSource(a addr) bool { return !anyPrefixContains(r.impossible, a) }

// possibleRouter tells whether a router outside can have an address, where ours is a
// pseudo address. It is like a host, but the ways to the segments' clients may cross
// networks that are numbered as ours are.
func possibleRouter(a, pseudo addr) bool {
	return a != pseudo && !anyPrefixContains(neverOutside, a)
}

func anyPrefixContains(prefixes []netip.Prefix, a addr) bool {
	ip := a.netip()
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}
