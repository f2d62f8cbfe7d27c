package userspace

import (
	"cmp"
	"container/list"
	"hash/maphash"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/names"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// If steer rules have names, the client must speak before a segment can be chosen. So the bridge
// answers the client's SYN itself, as a SYN proxy does, and holds what the client sends, without
// acknowledging it, until it knows the name. Then it opens the connection to the server with the
// client's own SYN, and delivers what it holds. From then on it only shifts numbers (N5).
//
// greeting.go reads the name, and greetserver.go opens the connection.

// Bounds of what the bridge waits for and holds of a client before it knows the name. At the
// bound, the connection goes on without a name (N3).
const (
	GreetingTime = 5 * time.Second
	heldPackets  = 16
)

// maxGreetings bounds the greetings, and maxHeld the bytes that they hold. Beyond it the oldest
// ones are forgotten.
const (
	maxGreetings = 1 << 14
	maxHeld      = 64 << 20
)

// greetingWindow is the window that the bridge offers to clients: they send no more than is read.
const greetingWindow = names.MaxBytes

// greetings are the connections that the bridge has answered and whose server has not answered
// yet.
type greetings struct {
	mu      lockorder.Mutex[lockorder.Greetings]
	known   map[flow.Key]*greeting // by the key of the client's packets
	order   list.List              // of *greeting, the oldest first
	held    int                    // bytes
	servers quicServers
	seed    maphash.Seed
}

func newGreetings() *greetings {
	return &greetings{known: make(map[flow.Key]*greeting), seed: maphash.MakeSeed()}
}

// greeting is one such connection.
type greeting struct {
	key    flow.Key
	place  *list.Element // in the order
	in     *iface.Iface
	syn    packet.Frame // the client's, as it came
	first  uint32       // the client's first sequence number, of the SYN
	number uint32       // the bridge's
	asks   packet.Offer // the client's
	offer  packet.Offer // the bridge's
	began  int64        // when the SYN came, in ns
	held   []segment    // what the client has sent since, in the order in which it came

	asked int64 // when the server got the SYN first, in ns; 0: the name is not known yet
	tries int   // how often the server got it
}

// segment is a TCP segment that the bridge holds.
type segment struct {
	frame packet.Frame
	from  uint32 // its sequence number
	data  []byte
	fin   bool
}

// greet takes a packet of a client that belongs to no flow, and whose segment depends on a name.
// It returns false if the packet neither begins a connection nor belongs to a greeting.
func (fw *Forwarder) greet(a *Arrival) bool {
	if a.Fragment {
		return false // of a SYN or a ClientHello: nobody sends one
	}
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	key := flow.Key{Tuple: a.Tuple, Iface: a.In.Index}
	c := g.known[key]
	switch {
	case a.Begins():
		fw.answerSYN(a, c, key)
		return true
	case c == nil || c.in != a.In || c.asked != 0:
		return false
	case a.TCPFlags&packet.TCPRST != 0:
		if a.Seq()-c.first-1 <= greetingWindow {
			g.forget(c)
		}
		return true
	case !a.Continues() || a.Ack() != c.number+1:
		return false
	}
	if g.hold(c, a) && (c.complete() || len(c.held) >= heldPackets) {
		fw.askFor(c, a.Out, a.Now)
	}
	return true
}

// answerSYN accepts a client's SYN in a server's place. A SYN that comes again gets the same
// answer.
func (fw *Forwarder) answerSYN(a *Arrival, c *greeting, key flow.Key) {
	g := fw.greetings
	if a.reopened != nil {
		fw.Flows.Remove(a.reopened, a.Now) // its packets would not reach the greeting
	}
	if c != nil && (c.first != a.Seq() || c.in != a.In) {
		g.forget(c)
		c = nil
	}
	if c == nil {
		c = &greeting{
			key: key, in: a.In, syn: clone(a.Frame), first: a.Seq(), number: g.number(a), asks: a.Offer(), offer: offerTo(a), began: a.Now,
		}
		g.add(c)
	}
	ip := packet.IPHeader(a.Dst, a.Src, a.Proto)
	a.sendBack(a.answerFrame(ip, a.SYNACK(ip, c.number, greetingWindow, c.offer)))
}

// add adds a greeting. The oldest ones make room.
func (g *greetings) add(c *greeting) {
	for oldest := g.order.Front(); oldest != nil && (len(g.known) >= maxGreetings || g.held >= maxHeld); oldest = g.order.Front() {
		g.forget(oldest.Value.(*greeting))
	}
	g.known[c.key], c.place = c, g.order.PushBack(c)
}

// forget ends a greeting.
func (g *greetings) forget(c *greeting) {
	for _, s := range c.held {
		g.held -= s.size()
	}
	delete(g.known, c.key)
	g.order.Remove(c.place)
}

// number returns the bridge's first sequence number for a connection (RFC 9293 §3.4.1, RFC 6528):
// nobody else can guess it, and it grows with time.
func (g *greetings) number(a *Arrival) uint32 {
	const tick = 4096 // ns
	return uint32(maphash.Comparable(g.seed, a.Tuple)) + uint32(a.Now/tick)
}

// bridgeScale is the scale of the windows that the bridge offers, which is Linux's usual one.
const bridgeScale = 7

// offerTo returns what the bridge offers to a client: what the client offers, as Linux would
// accept it.
func offerTo(a *Arrival) packet.Offer {
	o := a.Offer()
	return packet.Offer{
		MSS:    uint16(min(cmp.Or(int(a.In.MTU.Load()), 1500)-len(a.IP)+len(a.L4)-20, 0xffff)),
		Scaled: o.Scaled, Scale: bridgeScale, SACK: o.SACK, Timed: o.Timed, Time: uint32(a.Now / int64(time.Millisecond)),
	}
}

// hold keeps a segment of a client, unless it brings nothing new. It returns false then.
func (g *greetings) hold(c *greeting, a *Arrival) bool {
	s := segment{clone(a.Frame), a.Seq(), slices.Clone(a.Payload()), a.TCPFlags&packet.TCPFIN != 0}
	again := func(other segment) bool {
		return other.from == s.from && len(other.data) >= len(s.data) && (other.fin || !s.fin)
	}
	if s.from-c.first-1 > greetingWindow || len(c.held) > 2*heldPackets || slices.ContainsFunc(c.held, again) {
		return false
	}
	c.held = append(c.held, s)
	g.held += s.size()
	return true
}

// complete tells whether what a greeting holds tells which name the client asks for, or that it
// asks for none.
func (c *greeting) complete() bool {
	stream, ended := c.stream()
	_, reading := names.OfStream(stream)
	return reading != names.More || ended
}

// stream returns what the client has sent, as far as nothing is missing, and whether the client
// has ended it.
func (c *greeting) stream() (stream []byte, ended bool) {
	inOrder := slices.SortedFunc(slices.Values(c.held), func(a, b segment) int { return cmp.Compare(int32(a.from-b.from), 0) })
	for _, s := range inOrder {
		have := c.first + 1 + uint32(len(stream))
		if missing := int32(s.from - have); missing > 0 {
			break
		} else if known := -missing; int(known) <= len(s.data) {
			stream = append(stream, s.data[known:]...)
			ended = ended || s.fin
		}
	}
	return stream, ended
}

// size returns how many bytes a segment takes.
func (s *segment) size() int { return len(s.frame.Data) + len(s.data) }

func clone(f *packet.Frame) packet.Frame {
	return packet.Frame{Data: slices.Clone(f.Data), Tagged: f.Tagged}
}
