package packet

// DropReason says why a packet was dropped. Every drop has a reason, and is counted at the
// iface at which the packet came in (S5). enum drop_reason of bpf/types.h has the same values.
type DropReason uint8

const (
	Keep            DropReason = iota // not a drop
	DropMalformed                     // headers that do not fit the frame
	DropVLAN                          // a VLAN tag: another network's frame (S1)
	DropNotForUs                      // a destination MAC or address of another host (S1)
	DropGroup                         // broadcast or multicast (S1, S2)
	DropEtherType                     // neither ARP nor IP of a family that the device has (S2)
	DropARP                           // ARP, NDP or MLD from a segment, or not about the bridge
	DropSource                        // a source address that no sender here can have (S1, S2)
	DropFragment                      // a duplicate or inconsistent fragment, or too many (F7)
	DropProtocol                      // a protocol other than TCP, UDP and ICMP(v6); a routing header (F13)
	DropICMP                          // an ICMP message that is neither an echo nor an error
	DropNoFlow                        // belongs to no flow and cannot begin one (F5)
	DropNoSegment                     // the policy gives no segment (F11)
	DropPort                          // the segment does not open the port (F11)
	DropEgress                        // the segment may not open flows to this address (S2)
	DropTableFull                     // no room for a new flow (L1)
	DropNoTuple                       // no alias or port is free for a new flow (A5)
	DropUnresolved                    // the next hop's MAC is not known (A7)
	DropTooBig                        // does not fit the next link (F8)
	DropSend                          // the device refused the frame
	DropOverload                      // only userspace could carry it, and the rate limit is reached
	DropDenied                        // from a network that is denied, or to one (S7)
	DropLimit                         // a new flow beyond a limit of its segment
	DropStandby                       // belongs to no flow while another machine has the pseudo address (H2)
	DropReasonCount                   // the number of reasons
)

// DropNames are the reasons as metrics and status name them.
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
	DropDenied:     "denied",
	DropLimit:      "limit",
	DropStandby:    "standby",
}

func (r DropReason) String() string { return DropNames[r] }
