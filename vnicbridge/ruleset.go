package vnicbridge

import (
	"iter"
	"net/netip"
	"slices"
)

// ruleset is a configuration compiled for both data paths. It is immutable, and replaced
// as a whole. It decides about new flows; living flows keep what it decided before.
type ruleset struct {
	bridges  map[*port]*bridgeRules  // by the NIC's port
	segments map[*port]*segmentRules // by the VNIC's port

	// All the ports, those of retired devices too.
	nics, vnics []*port
	vnicsOf     map[string][]*port // the VNICs by their segments' names

	// The addresses that no host outside can have (S1).
	impossible []netip.Prefix
}

type bridgeRules struct {
	nic       *port
	decisions *decisionTable
	gateway   addr // noAddr if there is none
	refuse    OnNoSegment
}

type segmentRules struct {
	vnic     *port
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

// egress returns the NIC by which a segment may reach an address, and the host
// that the address stands for there.
func (r *ruleset) egress(s *segmentRules, dst addr) (nic *port, host addr) {
	if s.egress == EgressOff || len(s.gateways) == 0 {
		return nil, noAddr
	}
	if i := slices.Index(s.aliases.addrs[:len(s.gateways)], dst); i >= 0 {
		return s.gateways[i], r.bridges[s.gateways[i]].gateway
	}
	first := s.gateways[0]
	if s.egress == EgressAny && r.possibleSource(dst) || s.preserve && dst == r.bridges[first].gateway {
		return first, dst
	}
	return nil, noAddr
}

// answers tells whether there is anybody at an address who would refuse what comes to it
// by a port.
func (r *ruleset) answers(in *port, dst addr) bool {
	if bridge := r.bridges[in]; bridge != nil {
		return bridge.refuse != Drop
	}
	segment := r.segments[in]
	if segment == nil {
		return false
	}
	if _, ok := segment.reach[dst]; ok {
		return true
	}
	to, _ := r.egress(segment, dst)
	return to != nil
}

// entrances yields where flows for a segment come from: each port, with the address
// that a client there dials.
func (r *ruleset) entrances(segment string) iter.Seq2[*port, addr] {
	return func(yield func(*port, addr) bool) {
		for _, nic := range r.nics {
			if !yield(nic, nic.nic.address) {
				return
			}
		}
		for vnic, rules := range r.segments {
			for alias, way := range rules.reach {
				if way.to.vnic.segment == segment && !yield(vnic, alias) {
					return
				}
			}
		}
	}
}
