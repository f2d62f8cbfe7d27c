package packet

// DropReason says why a packet went no further. Every drop has one, and each is
// counted at the device by which the packet came in (S5).
type DropReason uint8

const (
	Keep            DropReason = iota // not a drop
	DropMalformed                     // headers that do not fit the frame
	DropVLAN                          // a VLAN tag: another network's frame (S1)
	DropNotForUs                      // another destination MAC or address (S1)
	DropGroup                         // broadcast or multicast (S1, S2)
	DropEtherType                     // neither IPv4 nor ARP; IPv6 among them (S2)
	DropARP                           // ARP out of a segment, or not for the pseudo address
	DropSource                        // a source address that cannot be (S1, S2)
	DropFragment                      // a fragment beyond the bounds (F7)
	DropProtocol                      // an IP protocol that makes no flows
	DropICMP                          // an ICMP message that makes no flow
	DropNoFlow                        // belongs to no flow and cannot begin one (F5)
	DropNoSegment                     // the policy gives no segment (F11)
	DropPort                          // the segment does not open the port (F11)
	DropEgress                        // the segment may not open flows to there (S2)
	DropTableFull                     // no room for a new flow (L1)
	DropNoTuple                       // no alias or port is free for a new flow (A5)
	DropUnresolved                    // the next hop's MAC is not known (A7)
	DropTooBig                        // does not fit the next link (F8)
	DropSend                          // the device refused the frame
	DropOverload                      // no program can carry it, and userspace has enough of such
	DropReasonCount                   // how many there are
)

var DropNames = [DropReasonCount]string{
	DropMalformed:  "malformed",
	DropVLAN:       "vlan",
	DropNotForUs:   "not_for_us",
	DropGroup:      "broadcast_or_multicast",
	DropEtherType:  "ether_type",
	DropARP:        "arp",
	DropSource:     "bad_source",
	DropFragment:   "fragment",
	DropProtocol:   "protocol",
	DropICMP:       "icmp",
	DropNoFlow:     "no_flow",
	DropNoSegment:  "no_segment",
	DropPort:       "port_not_open",
	DropEgress:     "egress_denied",
	DropTableFull:  "table_full",
	DropNoTuple:    "no_free_tuple",
	DropUnresolved: "next_hop_unresolved",
	DropTooBig:     "too_big",
	DropSend:       "send_failed",
	DropOverload:   "overload",
}

func (r DropReason) String() string { return DropNames[r] }
