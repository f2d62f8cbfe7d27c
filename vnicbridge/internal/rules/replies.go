package rules

import (
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// InboundReplies yields, in order of preference, the tuples with which the segment could
// answer a flow that comes through a bridge.
func (s *SegmentRules) InboundReplies(bridge *BridgeRules, flow packet.Tuple) iter.Seq[packet.Tuple] {
	server := s.vnic.VNIC.Address
	switch gateway := s.gatewayAlias(bridge); {
	case s.keepsAddress(flow.Src):
		return otherPorts(replyTo(flow, server, flow.Src))
	case s.Aliases.prefix == nil:
		return s.Aliases.replies(flow, server, s.preferredAlias(bridge, flow.Src), len(s.Gateways))
	case flow.Src == bridge.Gateway && gateway >= 0:
		return otherPorts(replyTo(flow, server, s.Aliases.Addrs[gateway]))
	default:
		return s.Aliases.derivedReplies(flow, server)
	}
}

// OutboundReplies yields the tuples with which a host could answer a flow that leaves a
// segment by a NIC. Other ports follow the segment's own, because another segment may use
// the same port.
func OutboundReplies(nic *iface.Iface, flow packet.Tuple, host packet.Addr) iter.Seq[packet.Tuple] {
	return otherPorts(replyTo(flow, host, nic.NIC.Address))
}

// Replies yields the tuples with which the other segment could answer a flow.
func (r ReachRule) Replies(flow packet.Tuple) iter.Seq[packet.Tuple] {
	return otherPorts(replyTo(flow, r.To.VNIC.Address, r.Alias))
}

// replyTo returns the tuple with which a server answers a flow. server and client are the
// addresses as the server sees them.
func replyTo(flow packet.Tuple, server, client packet.Addr) packet.Tuple {
	return packet.Tuple{Src: server, Dst: client, Sport: flow.Dport, Dport: flow.Sport, Proto: flow.Proto}
}

// otherPorts yields a reply tuple, and then the same tuple with other ports of the opener.
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
