package userspace

import (
	"cmp"
	"container/list"
	"hash/maphash"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/names"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// If steer rules have names, the client must speak before a segment can be chosen. So the bridge
// answers the client's SYN itself, as a SYN proxy does, and holds what the client sends, without
// acknowledging it, until it knows the name. Then it opens the connection to the server with the
// client's own SYN, and delivers what it holds. From then on it only shifts numbers (N5).
//
// greetings.go keeps such connections, greeting.go reads the name, and greetserver.go opens the
// connection.

// Bounds of what the bridge waits for and holds of a client before it knows the name. At the
// bound, the connection goes on without a name (N3).
const (
	GreetingTime = 5 * time.Second
	heldPackets  = 16
)

// greetingWindow is the window that the bridge offers to clients: they send no more than is read.
const greetingWindow = names.MaxBytes

// choice is what chose the segment of a flow that needed a name.
type choice struct {
	nic  uint32
	rule string // its label; "": no rule with names
}

// FlowsByName returns how many flows at a NIC, of both families, each rule with names has chosen the
// segment of, by the label of the rule. "" stands for flows that needed a name and that none of them
// matched.
func (fw *Forwarder) FlowsByName(nic *iface.Iface) map[string]uint64 {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	counts := make(map[string]uint64)
	for c, n := range g.chosen {
		if slices.ContainsFunc(nic.Each(), func(own *iface.Iface) bool { return own.Index == c.nic }) {
			counts[c.rule] += n
		}
	}
	return counts
}

// Greets tells whether there are greetings, whose flows need memory for a shift.
func (fw *Forwarder) Greets() bool {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.known) > 0
}

// greeting is one such connection.
type greeting struct {
	key    flow.Key
	order  order
	place  *list.Element // in the list of its order; nil: it is in none yet
	in     *iface.Iface
	syn    packet.Frame // the client's, without a payload
	first  uint32       // the client's first sequence number, of the SYN
	number uint32       // the bridge's
	asks   packet.Offer // the client's
	offer  packet.Offer // the bridge's

	toServer packet.Offer // what of the client's the server gets
	inOrder  uint32       // how many bytes of what it has sent are held, up to the first that is missing
	began    int64        // when the SYN came, or the first segment or datagram after it, in ns
	answers  int          // how often the client got the bridge's SYN-ACK
	held     []segment    // what the client has sent since, in the order in which it came

	asked int64 // when the server got the SYN first, in ns; 0: the name is not known yet
	tries int   // how often the server got it
}

// segment is a TCP segment that the bridge holds.
type segment struct {
	frame packet.Frame
	from  uint32 // its sequence number
	data  []byte // a part of the frame
	ends  bool   // it is a FIN or a RST
}

// greet takes a packet of a client that belongs to no flow, and whose segment depends on a name.
// taken is false if the packet neither begins a connection nor belongs to a greeting.
func (fw *Forwarder) greet(a *Arrival, bridge *rules.BridgeRules) (verdict packet.DropReason, taken bool) {
	if a.Fragment {
		return packet.Keep, false // of a SYN or a ClientHello: nobody sends one
	}
	if a.damaged() {
		return packet.DropMalformed, true
	}
	said, verdict, taken := fw.listen(a, bridge.Decisions)
	if said.by != nil {
		// The lock is free meanwhile, because a name takes time to read.
		name, reading := names.OfStream(said.stream)
		fw.understand(said, name, reading, a)
	}
	return verdict, taken
}

// said is what a client has said so far, as far as nothing is missing.
type said struct {
	by     *greeting // nil: the client has said nothing new
	stream []byte
	ended  bool // no more of it is held: the client has ended it, or there is too much
}

// listen takes a packet of a greeting's client. taken is false if the packet neither begins a
// connection nor belongs to a greeting.
func (fw *Forwarder) listen(a *Arrival, hashes *rules.DecisionTable) (news said, verdict packet.DropReason, taken bool) {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	fw.takeTurns(a.Out, a.Now)
	c := g.known[a.key()]
	if a.Begins() {
		return said{}, fw.answerSYN(a, c, hashes), true
	}
	if c == nil || c.asked == 0 && !c.hears(a) { // the bridge may have answered the SYN with a cookie too
		c = cmp.Or(g.answeredCookie(a, hashes), c)
	}
	switch {
	case c == nil || c.in != a.In:
		return said{}, packet.Keep, false
	case a.TCPFlags&packet.TCPRST != 0 && c.asked == 0:
		if a.Seq()-c.first-1 <= greetingWindow {
			g.forget(c)
		}
		return said{}, packet.Keep, true
	case !c.hears(a):
		return said{}, packet.Keep, false
	}
	// If the server has been asked, another goroutine opens the flow now, or the flow is gone. Of
	// the latter, the next tick tells the client.
	if !g.hold(c, a) || c.asked != 0 {
		return said{}, packet.Keep, true
	}
	stream, ended := c.stream()
	c.inOrder = uint32(len(stream))
	return said{c, stream, ended || len(c.held) >= heldPackets}, packet.Keep, true
}

// understand goes on with a greeting whose client has said something in which a name was read.
func (fw *Forwarder) understand(s said, name string, reading names.Reading, a *Arrival) {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	c := s.by
	switch {
	case g.known[c.key] != c || c.asked != 0: // another goroutine has gone on with it
	case reading != names.More:
		fw.askFor(c, name, a.Out, a.Now)
	case s.ended:
		fw.goOn(c, a.Out, a.Now)
	default:
		fw.tellHeld(c)
	}
}

// damaged tells whether a TCP segment has a wrong checksum. A damaged ClientHello could choose a
// wrong segment.
func (a *Arrival) damaged() bool { return !a.Frame.ChecksumVerified() && !a.ValidTCP() }

// hears tells whether a segment of a greeting's client answers the bridge's SYN-ACK.
func (c *greeting) hears(a *Arrival) bool {
	return a.TCPFlags&packet.TCPRST != 0 || a.Continues() && a.Ack() == c.number+1
}

// answerSYN accepts a client's SYN in a server's place. A SYN that comes again gets the same
// answer. No cookie answers a SYN that carries data, which clients repeat without data (RFC 7413
// §4.1.3): the program could not mend its checksum.
func (fw *Forwarder) answerSYN(a *Arrival, c *greeting, hashes *rules.DecisionTable) packet.DropReason {
	g := fw.greetings
	if a.reopened != nil {
		fw.Flows.Remove(a.reopened, a.Now) // its packets would not reach the greeting
	}
	if c != nil && (c.first != a.Seq() || c.in != a.In) {
		g.forget(c)
		c = nil
	}
	if c == nil {
		asks := a.Offer()
		c = &greeting{
			key: a.key(), in: a.In, syn: a.WithoutPayload(a.Frame), first: a.Seq(), asks: asks, offer: offerTo(a, asks), began: a.Now,
		}
		switch {
		case g.mayKeep(a.Now):
			c.number = g.number(a)
			c.offer = g.refusals.heed(c.in, c.offer)
			g.add(c)
		case len(a.Payload()) > 0:
			return packet.DropOverload
		default:
			c.number = cookieFor(a, hashes, asks)
		}
	}
	fw.answer(c, a)
	return packet.Keep
}

// answer sends the client of a greeting, whose SYN a is, the bridge's SYN-ACK.
func (fw *Forwarder) answer(c *greeting, a *Arrival) {
	c.answers++
	a.sendBack(a.answerSegment(a.SYNACK(c.number, greetingWindow, c.offer)))
}

// number returns the bridge's first sequence number for a connection (RFC 9293 §3.4.1, RFC 6528):
// nobody else can guess it, and it grows with time.
func (g *greetings) number(a *Arrival) uint32 {
	const tick = 4096 // ns
	return uint32(maphash.Comparable(g.seed, a.Tuple)) + uint32(a.Now/tick)
}

// bridgeScale is the scale of the windows that the bridge offers, which is Linux's usual one.
const bridgeScale = 7

// offerTo returns what the bridge offers to a client: what the client asks for, as Linux would
// accept it.
func offerTo(a *Arrival, asks packet.Offer) packet.Offer {
	return packet.Offer{
		MSS:    uint16(min(cmp.Or(int(a.In.MTU.Load()), 1500)-len(a.IP)+len(a.L4)-20, 0xffff)),
		Scaled: asks.Scaled, Scale: bridgeScale, SACK: asks.SACK, Timed: asks.Timed, Time: uint32(a.Now / int64(time.Millisecond)),
	}
}

// hold keeps a segment of a client, unless it brings nothing new, or more than fits. It returns
// false then.
func (g *greetings) hold(c *greeting, a *Arrival) bool {
	from, data, ends := a.Seq(), a.Payload(), a.TCPFlags&(packet.TCPFIN|packet.TCPRST) != 0
	at := from - c.first - 1
	fits := at <= greetingWindow && int(at)+len(data) <= greetingWindow &&
		len(c.held) < 2*heldPackets && c.size()+len(data) <= 2*greetingWindow
	if !fits || !c.brings(from, data, ends) {
		return false
	}
	switch {
	case len(c.held) == 0:
		c.began = a.Now
		g.put(c, waitName)
	case len(c.held) == 1 && c.held[0].isBare():
		g.held -= c.held[0].size() // what comes after it acknowledges too
		c.held = c.held[:0]
	}
	g.keep(c, segmentOf(a.Frame, from, data, ends))
	return true
}

// brings tells whether a segment brings something that is not held yet.
func (c *greeting) brings(from uint32, data []byte, ends bool) bool {
	if end := from - c.first - 1 + uint32(len(data)); len(c.held) > 0 && !ends && end <= c.inOrder {
		return false // as is_held of the program finds
	}
	return !slices.ContainsFunc(c.held, func(other segment) bool {
		return other.from == from && len(other.data) >= len(data) && (other.ends || !ends)
	})
}

// isBare tells whether the segment only acknowledges.
func (s *segment) isBare() bool { return len(s.data) == 0 && !s.ends }

// segmentOf returns a copy of a client's frame with its data, which is a part of the frame.
func segmentOf(f *packet.Frame, from uint32, data []byte, ends bool) segment {
	at := cap(f.Data) - cap(data) // both end where their memory does
	own := clone(f)
	return segment{own, from, own.Data[at : at+len(data)], ends}
}

// stream returns what the client has sent, as far as nothing is missing, and whether the client
// has ended it. Most clients send it by one segment, which is not copied.
func (c *greeting) stream() (stream []byte, ended bool) {
	if s := &c.held[0]; len(c.held) == 1 && s.from == c.first+1 {
		return s.data, s.ends
	}
	inOrder := slices.SortedFunc(slices.Values(c.held), func(a, b segment) int { return cmp.Compare(int32(a.from-b.from), 0) })
	for _, s := range inOrder {
		have := c.first + 1 + uint32(len(stream))
		if missing := int32(s.from - have); missing > 0 {
			break
		} else if known := -missing; int(known) <= len(s.data) {
			stream = append(stream, s.data[known:]...)
			ended = ended || s.ends
		}
	}
	return stream, ended
}

// size returns how many bytes a segment takes.
func (s *segment) size() int { return len(s.frame.Data) }

func clone(f *packet.Frame) packet.Frame {
	return packet.Frame{Data: slices.Clone(f.Data), Tagged: f.Tagged}
}
