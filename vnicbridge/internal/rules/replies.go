package rules

import (
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// InboundReplies yields, in order of preference, the tuples under which the segment could
// answer a flow that comes by a bridge.
func (s *SegmentRules) InboundReplies(bridge *BridgeRules, flow packet.Tuple) iter.Seq[packet.Tuple] {
	server := s.vnic.VNIC.Address
	if s.Preserve {
		return otherPorts(replyTo(flow, server, flow.Src))
	}
	return s.Aliases.replies(flow, server, s.preferredAlias(bridge, flow.Src), len(s.Gateways))
}

// OutboundReplies yields the tuples under which a host could answer a flow that leaves a
// segment by a NIC. Two segments may use the same port at once.
func OutboundReplies(nic *iface.Iface, flow packet.Tuple, host packet.Addr) iter.Seq[packet.Tuple] {
	return otherPorts(replyTo(flow, host, nic.NIC.Address))
}

// Replies yields the tuples under which the other segment could answer a flow.
func (r ReachRule) Replies(flow packet.Tuple) iter.Seq[packet.Tuple] {
	return otherPorts(replyTo(flow, r.To.VNIC.Address, r.Alias))
}

// replyTo is the answer to a flow from a server that sees the client at an address.
func replyTo(flow packet.Tuple, server, client packet.Addr) packet.Tuple {
	return packet.Tuple{Src: server, Dst: client, Sport: flow.Dport, Dport: flow.Sport, Proto: flow.Proto}
}

// otherPorts yields a reply tuple, and then the same with other ports of the
// opener.
func otherPorts(t packet.Tuple) iter.Seq[packet.Tuple] {
	return func(yield func(packet.Tuple) bool) {
		port := t.Dport
		for range portAttempts {
			if !yield(t) {
				return
			}
			t.Dport = randomPort(port)
		}
	}
}
