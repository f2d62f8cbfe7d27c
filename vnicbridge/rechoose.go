package vnicbridge

// Datagrams and echoes have no end of their own: a client that always uses one port
// (statsd, syslog, WireGuard) would keep its segment for ever. Where it must not, its flow
// is ended here, and its next packet opens one as the policy chooses then (F10+).

// rechoose ends the flows without a connection that clients have, where a condition holds.
func (fw *forwarder) rechoose(condition func(*flow) bool) {
	fw.end(func(f *flow) bool { return f.orig.proto != TCP && f.in.nic != nil && condition(f) }, nil)
}

// saysClosed tells whether an ICMP error about a packet of a flow's opener is the
// server's own word that nobody serves the port. Only what comes by the server's VNIC is.
func (a *arrival) saysClosed(fl *flow) bool {
	return fl.orig.proto == UDP && fl.in.nic != nil && fl.out == a.in &&
		a.l4[0] == icmpUnreachable && a.l4[1] == icmpPortUnreachable
}

// leaveUnhealthy ends the flows without a connection to segments that are unhealthy. A
// program may have opened one while a segment became so.
func (p *Plane) leaveUnhealthy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.segments {
		if p.health.condition(s.port).problem != "" {
			p.path.rechoose(s.port.isServer)
		}
	}
}

// isServer tells whether the port is where the server of a flow is.
func (p *port) isServer(f *flow) bool { return f.out == p }

// DrainFlows lets the clients of a segment that gets no new flows choose again, as far as
// they have no connection: UDP and echo. The error is for a segment that the configuration
// in force does not have.
func (p *Plane) DrainFlows(segment string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.segments[segment]
	if s == nil {
		return UnknownSegment(segment, sortedKeys(p.segments))
	}
	p.path.rechoose(s.port.isServer)
	return nil
}

// SwitchFlows lets the clients of a bridge that was switched choose again, as far as they
// have no connection, no steer rule has chosen for them, and they would come to another
// segment. The error is for a bridge that the configuration in force does not have.
func (p *Plane) SwitchFlows(bridge string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bridges[bridge]
	if b == nil {
		return UnknownBridge(bridge, sortedKeys(p.bridges))
	}
	decisions := p.path.currentRules().bridges[b.port].decisions
	p.path.rechoose(func(f *flow) bool {
		_, steered := decisions.steered(f.orig)
		return f.in == b.port && !steered && (len(decisions.slots) == 0 || f.out != decisions.slots[0])
	})
	return nil
}
