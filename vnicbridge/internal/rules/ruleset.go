package rules

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Ruleset is a configuration compiled for both data paths. It is immutable, and replaced
// as a whole. It decides about new flows; living flows keep earlier decisions.
type Ruleset struct {
	Bridges  map[*iface.Iface]*BridgeRules  // by the NIC's iface
	Segments map[*iface.Iface]*SegmentRules // by the VNIC's iface

	// All ifaces of both families, including those of retired devices.
	Nics, vnics []*iface.Iface
	VnicsOf     map[string][]*iface.Iface // the VNICs by their segments' names

	Limits map[*iface.Iface]config.Limits // by the VNIC, for both families together

	// The addresses that no host outside can have (S1).
	Impossible []netip.Prefix

	Key Key // of the hashes
}

// BridgeRules are the rules for new flows that come in at a NIC.
type BridgeRules struct {
	nic       *iface.Iface
	Decisions *DecisionTable
	Gateway   packet.Addr        // NoAddr if there is none
	Refuse    config.OnNoSegment // what senders of refused flows are told
	Shared    bool               // other machines have the pseudo address, too: at other times, or now
}

// SegmentRules are the rules for new flows to and from a segment.
type SegmentRules struct {
	vnic     *iface.Iface
	Aliases  *aliasPool
	Preserve bool               // the segment sees clients under their own addresses
	Ports    []config.PortRange // nil: those that listeners open
	Egress   config.Egress
	Gateways []*iface.Iface            // NICs; the first aliases stand for their gateways, in this order
	Reach    map[packet.Addr]ReachRule // by the alias under which this segment sees the other
}

// ReachRule lets a segment open flows to another segment.
type ReachRule struct {
	To    *iface.Iface // the other segment's VNIC
	Alias packet.Addr  // under which the other segment sees this one
}

// neverOutside are the sources that no host on any network can have: this network (0/8),
// loopback, multicast and broadcast (RFC 6890), and in IPv6 also the addresses that embed
// one of IPv4 (::/96, which has :: and ::1 in it, and ::ffff:0:0/96, which the parser
// refuses already) and those to be discarded (100::/64). 240/4 is missing because some
// networks use it, although it is reserved.
var neverOutside = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("ff00::/8"),
}

// PossibleSource tells whether a host outside can have an address (S1).
func (r *Ruleset) PossibleSource(a packet.Addr) bool { return !anyPrefixContains(r.Impossible, a) }

// PossibleRouter tells whether a router outside can have an address. pseudo is the pseudo
// address at which its packet came in. More addresses are possible than for a host, because
// the path to a client may cross networks with the same numbers as the segments'.
func PossibleRouter(a, pseudo packet.Addr) bool {
	return a != pseudo && !anyPrefixContains(neverOutside, a)
}

func anyPrefixContains(prefixes []netip.Prefix, a packet.Addr) bool {
	ip := a.Netip()
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// EachLink yields the links of all NICs, and of the devices behind which segments' servers are.
func (r *Ruleset) EachLink() iter.Seq[iface.Link] {
	return func(yield func(iface.Link) bool) {
		for _, ifc := range slices.Concat(r.Nics, r.vnics) {
			if l := ifc.Link(); l != nil && !yield(l) {
				return
			}
		}
	}
}

// Egress returns the NIC by which a segment may reach an address, and the host for which
// the address stands there. nic is nil if the segment may not reach the address.
func (r *Ruleset) Egress(s *SegmentRules, dst packet.Addr) (nic *iface.Iface, host packet.Addr) {
	if s.Egress == config.EgressOff || len(s.Gateways) == 0 {
		return nil, packet.NoAddr
	}
	if i := slices.Index(s.Aliases.Addrs[:len(s.Gateways)], dst); i >= 0 {
		return s.Gateways[i], r.Bridges[s.Gateways[i]].Gateway
	}
	first := s.Gateways[0]
	if s.Egress == config.EgressAny && r.PossibleSource(dst) || s.keepsAddress(dst) && dst == r.Bridges[first].Gateway {
		return first, dst
	}
	return nil, packet.NoAddr
}

// Answers tells whether the bridge answers, in the name of an address, to packets that come
// in at an iface and are refused: it does so only for addresses that the sender may use.
func (r *Ruleset) Answers(in *iface.Iface, dst packet.Addr) bool {
	if bridge := r.Bridges[in]; bridge != nil {
		return bridge.Refuse != config.Drop
	}
	segment := r.Segments[in]
	if segment == nil {
		return false
	}
	if _, ok := segment.Reach[dst]; ok {
		return true
	}
	to, _ := r.Egress(segment, dst)
	return to != nil
}

// Entrances yields the ifaces at which flows to a segment can come in, each with the address
// that its clients dial.
func (r *Ruleset) Entrances(segment string) iter.Seq2[*iface.Iface, packet.Addr] {
	return func(yield func(*iface.Iface, packet.Addr) bool) {
		for _, nic := range r.Nics {
			if !yield(nic, nic.NIC.Address) {
				return
			}
		}
		for vnic, rules := range r.Segments {
			for alias, way := range rules.Reach {
				if way.To.VNIC.Segment == segment && !yield(vnic, alias) {
					return
				}
			}
		}
	}
}
