package vnicbridge

import "net/netip"

// Ends are the two ends of a connection as its client has them. A server on a
// segment has others on its socket: its own address, and often an alias.
type Ends struct {
	Client netip.AddrPort // who opened the connection
	// Dialed is where the client opened it to: a pseudo address, or the alias under
	// which another segment reaches the server's.
	Dialed netip.AddrPort
}

// Ends returns the ends of a connection to a segment. local and remote are what the
// server's socket has. ok is false when no flow is known, as for a connection from
// this host.
func (p *Plane) Ends(segment string, proto Protocol, local, remote netip.AddrPort) (ends Ends, ok bool) {
	// The server's view is the tuple of its answers.
	answer := tuple{
		src: addrOf(local.Addr()), dst: addrOf(remote.Addr()),
		sport: local.Port(), dport: remote.Port(), proto: proto,
	}
	orig, ok := p.path.origOf(segment, answer)
	if !ok {
		return Ends{}, false
	}
	return Ends{
		Client: netip.AddrPortFrom(orig.src.netip(), orig.sport),
		Dialed: netip.AddrPortFrom(orig.dst.netip(), orig.dport),
	}, true
}

// Alias is the reverse of [Plane.Ends]: the address and port under which a server
// socket at local sees a client. It is for UDP servers, which send to the address
// that they were shown. Without ends.Dialed the first flow of the client is taken.
func (p *Plane) Alias(segment string, proto Protocol, local netip.AddrPort, ends Ends) (alias netip.AddrPort, ok bool) {
	question := tuple{
		src: addrOf(ends.Client.Addr()), dst: noAddr,
		sport: ends.Client.Port(), dport: local.Port(), proto: proto,
	}
	if ends.Dialed.IsValid() {
		question.dst = addrOf(ends.Dialed.Addr())
	}
	answer, ok := p.path.replyOf(segment, question, addrOf(local.Addr()))
	if !ok {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(answer.dst.netip(), answer.dport), true
}
