package vnicbridge

// Datagrams and echoes have no end of their own: a client that always uses one port
// (statsd, syslog, WireGuard) would keep its segment for ever. Where it must not, its flow
// is ended here, and its next packet opens one as the policy chooses then (F10+).

// rechoose ends the flows without a connection that clients have, where a condition holds.
func (fw *forwarder) rechoose(condition func(*flow) bool) {
	fw.end(func(f *flow) bool { return f.orig.proto != TCP && f.in.nic != nil && condition(f) }, nil)
}

// rechooseAt ends the flows without a connection whose server is at a port.
func (fw *forwarder) rechooseAt(server *port) {
	fw.rechoose(func(f *flow) bool { return f.out == server })
}

// rechooseSwitched ends the flows without a connection by the NIC of a bridge that was
// switched. A flow stays if a steer rule has chosen its segment, or if the bridge was
// switched to its segment.
func (fw *forwarder) rechooseSwitched(nic *port) {
	decisions := fw.currentRules().bridges[nic].decisions
	fw.rechoose(func(f *flow) bool {
		_, steered := decisions.steered(f.orig)
		return f.in == nic && !steered && (len(decisions.slots) == 0 || f.out != decisions.slots[0])
	})
}

// saysClosed tells whether an ICMP error about a packet of a flow's opener is the
// server's own word that nobody serves the port. Only what comes by the server's VNIC is.
func (a *arrival) saysClosed(fl *flow) bool {
	return fl.orig.proto == UDP && fl.in.nic != nil && fl.out == a.in &&
		a.l4[0] == icmpUnreachable && a.l4[1] == icmpPortUnreachable
}
