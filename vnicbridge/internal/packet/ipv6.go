package packet

// ParseIPv6 parses a frame whose Ethernet type is IPv6.
func ParseIPv6(*Frame) (p Packet, verdict DropReason) { return p, DropEtherType }

// IsNeighbourDiscovery tells whether the frame carries a message of NDP or MLD.
func (f *Frame) IsNeighbourDiscovery() bool { return false }
