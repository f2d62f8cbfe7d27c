package vnicbridge

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

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
func (p *Plane) Ends(segment string, proto config.Protocol, local, remote netip.AddrPort) (ends Ends, ok bool) {
	// The server's view is the tuple of its answers.
	answer := packet.Tuple{
		Src: packet.AddrOf(local.Addr()), Dst: packet.AddrOf(remote.Addr()),
		Sport: local.Port(), Dport: remote.Port(), Proto: proto,
	}
	orig, ok := p.path.OrigOf(segment, answer)
	if !ok {
		return Ends{}, false
	}
	return Ends{
		Client: netip.AddrPortFrom(orig.Src.Netip(), orig.Sport),
		Dialed: netip.AddrPortFrom(orig.Dst.Netip(), orig.Dport),
	}, true
}

// Alias is the reverse of [Plane.Ends]: the address and port under which a server
// socket at local sees a client. It is for UDP servers, which send to the address
// that they were shown. Without ends.Dialed the first flow of the client is taken.
func (p *Plane) Alias(segment string, proto config.Protocol, local netip.AddrPort, ends Ends) (alias netip.AddrPort, ok bool) {
	question := packet.Tuple{
		Src: packet.AddrOf(ends.Client.Addr()), Dst: packet.NoAddr,
		Sport: ends.Client.Port(), Dport: local.Port(), Proto: proto,
	}
	if ends.Dialed.IsValid() {
		question.Dst = packet.AddrOf(ends.Dialed.Addr())
	}
	answer, ok := p.path.ReplyOf(segment, question, packet.AddrOf(local.Addr()))
	if !ok {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(answer.Dst.Netip(), answer.Dport), true
}
