package vnicbridge

// dropReason says why a packet went no further. Every drop has one, and each is
// counted at the device by which the packet came in (S5).
type dropReason uint8

const (
	keep           dropReason = iota // not a drop
	dropMalformed                    // headers that do not fit the frame
	dropVLAN                         // a VLAN tag: another network's frame (S1)
	dropNotForUs                     // another destination MAC or address (S1)
	dropGroup                        // broadcast or multicast (S1, S2)
	dropEtherType                    // neither IPv4 nor ARP; IPv6 among them (S2)
	dropARP                          // ARP out of a segment, or not for the pseudo address
	dropSource                       // a source address that cannot be (S1, S2)
	dropFragment                     // a fragment beyond the bounds (F7)
	dropProtocol                     // an IP protocol that makes no flows
	dropICMP                         // an ICMP message that makes no flow
	dropNoFlow                       // belongs to no flow and cannot begin one (F5)
	dropNoSegment                    // the policy gives no segment (F11)
	dropPort                         // the segment does not open the port (F11)
	dropEgress                       // the segment may not open flows to there (S2)
	dropTableFull                    // no room for a new flow (L1)
	dropNoTuple                      // no alias or port is free for a new flow (A5)
	dropUnresolved                   // the next hop's MAC is not known (A7)
	dropTooBig                       // does not fit the next link (F8)
	dropSend                         // the device refused the frame
	dropOverload                     // no program can carry it, and userspace has enough of such
	dropReasons                      // how many there are
)

var dropNames = [dropReasons]string{
	dropMalformed:  "malformed",
	dropVLAN:       "vlan",
	dropNotForUs:   "not_for_us",
	dropGroup:      "broadcast_or_multicast",
	dropEtherType:  "ether_type",
	dropARP:        "arp",
	dropSource:     "bad_source",
	dropFragment:   "fragment",
	dropProtocol:   "protocol",
	dropICMP:       "icmp",
	dropNoFlow:     "no_flow",
	dropNoSegment:  "no_segment",
	dropPort:       "port_not_open",
	dropEgress:     "egress_denied",
	dropTableFull:  "table_full",
	dropNoTuple:    "no_free_tuple",
	dropUnresolved: "next_hop_unresolved",
	dropTooBig:     "too_big",
	dropSend:       "send_failed",
	dropOverload:   "overload",
}

func (r dropReason) String() string { return dropNames[r] }
