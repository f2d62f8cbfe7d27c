package link

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// How many requests for aliases a second are answered behind a device, at most: of the server,
// which asks for each client whose alias it does not know, and of all other hosts there together.
const (
	ServerAnswerRate = 4096
	AnswerRate       = 256
)

// Server is the link behind a device, for one family: an Ethernet with the server of a segment
// (H10). It answers for the segment's aliases with the iface's MAC, and resolves the server from
// the gateway's alias. To [Neighbours] the server is the gateway, and nothing is on the link, so
// no other host there is ever a next hop.
type Server struct {
	*Neighbours
	vnic     *iface.Iface
	aliases  atomic.Pointer[config.AddrRange] // zero: there are none yet
	toServer *rate.Limiter                    // of answers
	toOthers *rate.Limiter
}

// NewServer returns the link of a remote segment's iface, which must have an address and a MAC. The
// caller sets Learned, Publish and SentByKernel of the table before use. The link asks and answers
// for nothing before SetAliases.
func NewServer(vnic *iface.Iface) *Server {
	limiter := func(r int) *rate.Limiter { return rate.NewLimiter(rate.Limit(r), r) }
	s := &Server{Neighbours: NewNeighbours(netip.Prefix{}), vnic: vnic, toServer: limiter(ServerAnswerRate), toOthers: limiter(AnswerRate)}
	s.aliases.Store(new(config.AddrRange))
	s.Gateway = vnic.VNIC.Address.Netip()
	s.send = vnic.Transmit
	s.GaveUp = func(frames int) { vnic.Drops[packet.DropUnresolved].Add(uint64(frames)) }
	s.Ask = s.ask
	return s
}

// SetAliases sets the addresses that the link answers for. The first one stands for the gateway.
func (s *Server) SetAliases(r config.AddrRange) { s.aliases.Store(&r) }

// Table returns the next hops, of which there is one.
func (s *Server) Table() *Neighbours { return s.Neighbours }

// Tick sends the requests that are due.
func (s *Server) Tick(now int64) { s.tick(now) }

// Close implements [iface.Link]. The aliases are not given up: another machine may have taken them.
func (s *Server) Close() {}

// Announce asks all hosts for the server. The request comes from the iface's MAC, so that switches
// and tunnels learn behind which machine that MAC is now.
func (s *Server) Announce() { s.ask(s.vnic.VNIC.Address, config.BroadcastMAC) }

// Save returns what the link knows, for a successor.
func (s *Server) Save() Saved { return Saved{Hosts: s.save()} }

// Inherit takes over what a predecessor's link knew.
func (s *Server) Inherit(from Saved) { s.restore(from.Hosts) }

// ask asks for the server, in the name of the gateway's alias: at the MAC that it had, or at all.
func (s *Server) ask(server packet.Addr, to config.MAC) {
	aliases, mac := s.aliases.Load(), s.vnic.MAC()
	if aliases.IsZero() {
		return
	}
	alias := packet.AddrOf(aliases.First)
	var f packet.Frame
	if s.vnic.Family == config.IPv4 {
		f = ARPMessage{Request: true, SenderMAC: mac, Sender: alias, Target: server}.Frame(to)
	} else {
		m := NDPMessage{From: alias, To: server, Target: server, MAC: mac}
		if to == config.BroadcastMAC {
			m.To = SolicitedNode(server)
			to = GroupMAC(m.To)
		}
		f = m.Frame(mac, to)
	}
	s.vnic.Transmit([]packet.Frame{f})
}

// HandleNeighbour implements [iface.Link]. Messages about other hosts count as DropARP.
func (s *Server) HandleNeighbour(f *packet.Frame, now int64) packet.DropReason {
	switch mac := s.vnic.MAC(); {
	case f.SrcMAC() == mac:
		return packet.DropARP // our own frame, back through a loop, or one of a machine that shares the MAC
	case !f.DstMAC().IsGroup() && f.DstMAC() != mac:
		return packet.DropNotForUs
	}
	if s.vnic.Family == config.IPv4 {
		return s.handleARP(f, now)
	}
	return s.handleNDP(f, now)
}

func (s *Server) handleARP(f *packet.Frame, now int64) packet.DropReason {
	m, err := ParseARP(f)
	if err != nil {
		return packet.DropMalformed
	}
	server := m.Sender == s.vnic.VNIC.Address
	if server {
		s.Hear(m.Sender, m.SenderMAC, true, now)
	}
	switch {
	case m.Request && s.isAlias(m.Target) && m.Sender != m.Target:
		return s.answer(f, now, ARPMessage{
			SenderMAC: s.vnic.MAC(), Sender: m.Target, TargetMAC: m.SenderMAC, Target: m.Sender,
		}.Frame(m.SenderMAC))
	case server:
		return packet.Keep
	}
	return packet.DropARP
}

func (s *Server) handleNDP(f *packet.Frame, now int64) packet.DropReason {
	m, err := ParseNDP(f)
	if err != nil {
		return packet.DropARP // of routers, for example; malformed ones are not told apart
	}
	server := s.vnic.VNIC.Address
	switch {
	case m.Advertisement && m.Target == server && s.advertised(m, now):
		return packet.Keep
	case m.Advertisement:
		return packet.DropARP
	case m.From == server && !m.MAC.IsZero():
		s.solicited(m.From, m.MAC, now)
	}
	if !s.isAlias(m.Target) || !m.senderOf(f).IsUnicast() {
		return packet.DropARP
	}
	return s.answer(f, now, s.advertisement(m, f))
}

// advertisement returns the answer to a solicitation for an alias. A host that wants the address
// for itself learns that it is taken (RFC 4862 §5.4.4).
func (s *Server) advertisement(m NDPMessage, f *packet.Frame) packet.Frame {
	mac := s.vnic.MAC()
	a := NDPMessage{Advertisement: true, From: m.Target, To: m.From, Target: m.Target, MAC: mac, Solicited: true, Override: true}
	to := m.senderOf(f)
	if m.From == unspecified {
		a.To, a.Solicited, to = allNodes, false, GroupMAC(allNodes)
	}
	return a.Frame(mac, to)
}

// answer sends an answer to a message, at the rate that is allowed.
func (s *Server) answer(to *packet.Frame, now int64, f packet.Frame) packet.DropReason {
	allowed := s.toOthers
	if _, server := s.Router(); to.SrcMAC() == server {
		allowed = s.toServer
	}
	if !allowed.AllowN(time.Unix(0, now), 1) {
		return packet.DropOverload
	}
	s.vnic.Transmit([]packet.Frame{f})
	return packet.Keep
}

// isAlias tells whether the segment may see a host under an address.
func (s *Server) isAlias(a packet.Addr) bool {
	ip, aliases := a.Netip(), s.aliases.Load()
	return a != s.vnic.VNIC.Address && !aliases.IsZero() && ip.Compare(aliases.First) >= 0 && ip.Compare(aliases.Last) <= 0
}
