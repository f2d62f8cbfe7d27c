package vnicbridge

import "iter"

// inboundReplies yields, in order of preference, the tuples under which the segment could
// answer a flow that comes by a bridge.
func (s *segmentRules) inboundReplies(bridge *bridgeRules, flow tuple) iter.Seq[tuple] {
	server := s.vnic.vnic.address
	if s.preserve {
		return otherPorts(replyTo(flow, server, flow.src))
	}
	return s.aliases.replies(flow, server, s.preferredAlias(bridge, flow.src), len(s.gateways))
}

// outboundReplies yields the tuples under which a host could answer a flow that leaves a
// segment by a NIC. Two segments may use the same port at once.
func outboundReplies(nic *port, flow tuple, host addr) iter.Seq[tuple] {
	return otherPorts(replyTo(flow, host, nic.nic.address))
}

// replies yields the tuples under which the other segment could answer a flow.
func (r reachRule) replies(flow tuple) iter.Seq[tuple] {
	return otherPorts(replyTo(flow, r.to.vnic.address, r.alias))
}

// replyTo is the answer to a flow from a server that sees the client at an address.
func replyTo(flow tuple, server, client addr) tuple {
	return tuple{src: server, dst: client, sport: flow.dport, dport: flow.sport, proto: flow.proto}
}

// otherPorts yields a reply tuple, and then the same with other ports of the
// opener.
func otherPorts(t tuple) iter.Seq[tuple] {
	return func(yield func(tuple) bool) {
		port := t.dport
		for range portAttempts {
			if !yield(t) {
				return
			}
			t.dport = randomPort(port)
		}
	}
}
