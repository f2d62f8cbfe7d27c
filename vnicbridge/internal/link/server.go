package link

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
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
//
// While the iface stands by, another machine has the aliases and the iface's MAC (H2). Then the link
// answers for nothing, and asks for the server from the device's own MAC without naming an alias.
type Server struct {
	*Neighbours
	vnic     *iface.Iface
	key      [2]uint64                        // of the link-local address from which it asks
	aliases  atomic.Pointer[config.AddrRange] // zero: there are none yet
	toServer *rate.Limiter                    // of answers
	toOthers *rate.Limiter

	mu        lockorder.Mutex[lockorder.Claim]
	announces int   // announcements still to send
	announced int64 // when the last one was sent, in ns
}

// NewServer returns the link of a remote segment's iface, which must have an address and a MAC. key
// is the secret from which addresses are derived. The caller sets Learned, Publish and SentByKernel
// of the table before use. The link asks and answers for nothing before SetAliases.
func NewServer(vnic *iface.Iface, key [2]uint64) *Server {
	limiter := func(r int) *rate.Limiter { return rate.NewLimiter(rate.Limit(r), r) }
	s := &Server{Neighbours: NewNeighbours(netip.Prefix{}), vnic: vnic, key: key, toServer: limiter(ServerAnswerRate), toOthers: limiter(AnswerRate)}
	s.aliases.Store(new(config.AddrRange))
	s.Gateway = vnic.VNIC.Address.Netip()
	s.send = s.sendWaiting
	s.GaveUp = func(frames int) { vnic.Drops[packet.DropUnresolved].Add(uint64(frames)) }
	s.Ask = s.ask
	return s
}

// SetAliases sets the addresses that the link answers for. The first one stands for the gateway.
func (s *Server) SetAliases(r config.AddrRange) { s.aliases.Store(&r) }

// Table returns the next hops, of which there is one.
func (s *Server) Table() *Neighbours { return s.Neighbours }

// Tick sends the announcements and the requests that are due.
func (s *Server) Tick(now int64) {
	s.announceDue(now)
	s.tick(now)
}

// Close implements [iface.Link]. The aliases are not given up: another machine may have taken them.
func (s *Server) Close() {}

// Announce asks all hosts for the server. The request comes from the iface's MAC, so that switches
// and tunnels learn behind which machine that MAC is now.
func (s *Server) Announce() { s.ask(s.vnic.VNIC.Address, config.BroadcastMAC) }

// TakeOver begins to announce, at once and again, because another machine had the aliases until now.
func (s *Server) TakeOver(now int64) {
	s.mu.Lock()
	s.announces, s.announced = TakeOverCount, 0
	s.mu.Unlock()
	s.announceDue(now)
}

func (s *Server) announceDue(now int64) {
	s.mu.Lock()
	due := s.announces > 0 && (s.announced == 0 || now-s.announced >= int64(announceInterval))
	if due {
		s.announces--
		s.announced = now
	}
	s.mu.Unlock()
	if due && !s.vnic.StandsBy() {
		s.Announce()
	}
}

// sendWaiting sends frames that have waited, maybe since before the iface stood by.
func (s *Server) sendWaiting(frames []packet.Frame) {
	mac := s.vnic.SourceMAC()
	for _, f := range frames {
		copy(f.Eth()[6:], mac[:])
	}
	s.vnic.Transmit(frames)
}

// Save returns what the link knows, for a successor.
func (s *Server) Save() Saved { return Saved{Hosts: s.save()} }

// Inherit takes over what a predecessor's link knew.
func (s *Server) Inherit(from Saved) { s.restore(from.Hosts) }

// ask asks for the server: at the MAC that it had, or at all.
func (s *Server) ask(server packet.Addr, to config.MAC) {
	if s.aliases.Load().IsZero() {
		return
	}
	mac := s.vnic.SourceMAC()
	var f packet.Frame
	if s.vnic.Family == config.IPv4 {
		f = ARPMessage{Request: true, SenderMAC: mac, Sender: s.asker(), Target: server}.Frame(to)
	} else {
		m := NDPMessage{From: s.asker(), To: server, Target: server, MAC: mac}
		if to == config.BroadcastMAC {
			m.To = SolicitedNode(server)
			to = GroupMAC(m.To)
		}
		f = m.Frame(mac, to)
	}
	s.vnic.Transmit([]packet.Frame{f})
}

// asker returns the address from which the link asks for the server: the gateway's alias. While the
// iface stands by, it is none, as in a probe, which hosts answer (RFC 5227 §2.1.1). In IPv6 it is then
// a link-local address that no other machine has.
func (s *Server) asker() packet.Addr {
	switch {
	case !s.vnic.StandsBy():
		return packet.AddrOf(s.aliases.Load().First)
	case s.vnic.Family == config.IPv4:
		return packet.NoAddr
	}
	return linkLocal(s.key, s.vnic.VNIC.Segment, s.vnic.OwnMAC(), 0)
}

// HandleNeighbour implements [iface.Link]. Messages about other hosts count as DropARP.
func (s *Server) HandleNeighbour(f *packet.Frame, now int64) packet.DropReason {
	to, mac, own := f.DstMAC(), s.vnic.MAC(), s.vnic.OwnMAC()
	switch {
	case f.SrcMAC() == mac || f.SrcMAC() == own:
		return packet.DropARP // our own frame, back through a loop, or one of a machine that shares the MAC
	case !to.IsGroup() && to != mac && to != own:
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
	if s.vnic.StandsBy() {
		return packet.DropARP // another machine answers
	}
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
