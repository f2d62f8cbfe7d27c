package userspace

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// ServerTime is how long a server may take to answer before the client gets a RST (N7). Its SYN is
// repeated meanwhile, each time after twice as long (RFC 6298 §5.5).
const (
	ServerTime = 10 * time.Second
	firstRetry = time.Second
)

// answersAgain is how many silent clients get the bridge's SYN-ACK again at a tick. In a flood, whose
// clients are forged, the packets of others would wait behind more; and clients repeat their SYN.
const answersAgain = 64

// askFor opens the flow of a greeting whose client asks for a name, or for none (""), and asks the
// server. If there is no server for it, the client gets a RST: its connection is open already.
func (fw *Forwarder) askFor(c *greeting, name string, out *iface.Outbox, now int64) {
	fl, verdict := fw.openGreeted(c, name, out, now)
	if fl == nil {
		c.in.Drops[verdict].Add(1)
		if verdict == packet.DropDenied {
			fw.greetings.forget(c) // who is banned gets no answer
		} else {
			fw.refuseGreeting(c, out, now)
		}
		return
	}
	c.asked = now
	fw.greetings.put(c, waitServer)
	fw.askServer(c, fl, out, now)
}

// openGreeted opens the flow of a greeting, or returns why there is none.
func (fw *Forwarder) openGreeted(c *greeting, name string, out *iface.Outbox, now int64) (*flow.Flow, packet.DropReason) {
	rules := fw.rules.Load()
	bridge := rules.Bridges[c.in]
	if bridge == nil {
		return nil, packet.DropNoSegment
	}
	syn, verdict := c.parse(&c.syn, out, now)
	if verdict != packet.Keep {
		return nil, verdict
	}
	to, label := bridge.Decisions.DecideNamed(syn.Tuple, name)
	if to == nil {
		return nil, packet.DropNoSegment
	}
	if fw.denied.Has(to, syn.Src) {
		return nil, packet.DropDenied
	}
	segment := rules.Segments[to]
	if !fw.enters(segment, to, &syn.Packet) {
		return nil, packet.DropPort
	}
	fl := flow.New(c.in, to, &syn.Packet, now)
	fl.Greet(fw.labels.Load().Number(label))
	fl, verdict = fw.Flows.Insert(fl, segment.InboundReplies(bridge, syn.Tuple))
	if fl != nil {
		fw.greetings.chosen[choice{c.in.Index, label}]++
	}
	return fl, verdict
}

// parse reads a frame of the greeting's client.
func (c *greeting) parse(f *packet.Frame, out *iface.Outbox, now int64) (*Arrival, packet.DropReason) {
	a := &Arrival{In: c.in, Frame: f, Now: now, Out: out}
	return a, a.parse(f.EtherType())
}

// askServer sends the client's SYN to the server, without what the bridge has declined.
func (fw *Forwarder) askServer(c *greeting, fl *flow.Flow, out *iface.Outbox, now int64) {
	c.tries++
	frame := clone(&c.syn)
	a, verdict := c.parse(&frame, out, now)
	if verdict == packet.Keep {
		c.toServer = fw.greetings.refusals.forwarded(fl, c.offer)
		a.Decline(c.toServer, frame.ChecksumUnfinished())
		fw.observe(a, fl, flow.Forward)
		to, tuple := fl.OtherEnd(flow.Forward)
		a.Rewrite(tuple, frame.ChecksumUnfinished())
		verdict = fw.depart(a, to, tuple.Dst)
		out.Expect(to)
	}
	if verdict != packet.Keep {
		c.in.Drops[verdict].Add(1)
	}
}

// greeted takes a packet of a greeted flow whose server has not accepted the connection yet.
// taken is false if packets of that direction may go on meanwhile.
func (fw *Forwarder) greeted(a *Arrival, fl *flow.Flow, dir flow.Direction) (verdict packet.DropReason, taken bool) {
	if a.Fragment {
		return packet.DropFragment, true
	}
	if a.damaged() {
		return packet.DropMalformed, true
	}
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, goesOn := fl.Shift(dir); goesOn {
		return packet.Keep, false
	}
	orig, _ := fl.Keys()
	c := g.known[orig]
	switch {
	case c == nil || c.asked == 0: // what the client has sent is lost
		fw.Flows.Remove(fl, a.Now)
		if !a.Begins() { // a SYN comes again, and gets an answer then
			fw.answerRefusal(a)
		}
		return packet.DropNoFlow, true
	case dir == flow.Reverse:
		return fw.serverAnswers(a, c, fl), true
	case c.hears(a):
		g.hold(c, a)
	}
	return packet.Keep, true
}

// serverAnswers takes a server's answer to the client's SYN (RFC 9293 §3.10.7.3).
func (fw *Forwarder) serverAnswers(a *Arrival, c *greeting, fl *flow.Flow) packet.DropReason {
	acknowledges := a.TCPFlags&packet.TCPACK != 0
	ours := acknowledges && a.Ack() == c.first+1
	switch {
	case ours && a.TCPFlags&packet.TCPRST != 0: // it refuses (N7)
		fw.observe(a, fl, flow.Reverse)
		fw.refuseGreeting(c, a.Out, a.Now)
		return packet.Keep
	case ours && a.TCPFlags&packet.TCPSYN != 0:
		fw.observe(a, fl, flow.Reverse)
		fw.greetings.refusals.learn(fl, c.asks, c.toServer, a.Offer())
		shift := c.shiftTo(a)
		fl.SetShift(shift) // before the server acknowledges what it gets: that needs no lock then
		fw.deliver(c, fl, shift, a)
		a.Out.Flush()
		fl.Delivered() // from now on the client's packets need no lock either, and could overtake
		fw.greetings.forget(c)
		return packet.Keep
	case acknowledges: // of an older connection, which a RST ends before the SYN comes again
		fw.answerRefusal(a)
	}
	return packet.DropNoFlow
}

// shiftTo returns how the numbers of the server, of which a is the SYN, differ from those that the
// bridge gave to the client.
func (c *greeting) shiftTo(a *Arrival) packet.Shift {
	server := a.Offer()
	s := packet.Shift{Seq: c.number - a.Seq()}
	if c.offer.Timed && server.Timed {
		s.Time = c.offer.Time - server.Time
	}
	if c.offer.Scaled {
		s.ToClient = int8(server.Scale) - int8(c.offer.Scale)
		if !server.Scaled {
			s.ToServer = int8(c.asks.Scale)
		}
	}
	return s
}

// deliver sends the server of a flow what the bridge has held. It looks up no flow, because a packet whose
// flow is gone would come back to the greetings, which are locked.
func (fw *Forwarder) deliver(c *greeting, fl *flow.Flow, shift packet.Shift, answer *Arrival) {
	for i := range c.held {
		a, verdict := c.parse(&c.held[i].frame, answer.Out, answer.Now)
		if verdict == packet.Keep {
			if a.Proto == config.TCP {
				a.ShiftToServer(shift, a.Frame.ChecksumUnfinished())
			}
			fw.observe(a, fl, flow.Forward)
			verdict = fw.passOn(a, fl, flow.Forward)
		}
		if verdict != packet.Keep {
			c.in.Drops[verdict].Add(1)
		}
	}
}

// refuseGreeting resets the client of a greeting, which has no server.
func (fw *Forwarder) refuseGreeting(c *greeting, out *iface.Outbox, now int64) {
	fw.greetings.forget(c)
	if verdict := sendReset(c.in, c.key.Reversed(), c.number+1, now, out); verdict != packet.Keep {
		c.in.Drops[verdict].Add(1)
	}
}

// tickGreetings does what is due: clients that have not told a name go on without one, and clients
// and servers that have not answered a SYN get it again. It looks at no greeting that only waits for its
// time: there may be many, and packets wait meanwhile.
func (fw *Forwarder) tickGreetings(now int64) {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusals.tick()
	var out iface.Outbox
	again := 0
	for c := range g.in(waitACK) {
		if now-c.began >= int64(GreetingTime) {
			g.forget(c)
		} else if again < answersAgain && now-c.began >= retryAfter(c.answers) {
			again++
			fw.answerAgain(c, &out, now)
		}
	}
	for _, o := range []order{waitQUIC, waitName} {
		for c := range g.in(o) {
			if now-c.began < int64(GreetingTime) {
				break // as all that come after it
			}
			g.put(c, waitTurn)
		}
	}
	fw.takeTurns(&out, now)
	for c := range g.in(waitServer) {
		fw.askAgain(c, &out, now)
	}
	out.Flush()
}

// reviewGreetings goes on with greetings that need no name by new rules, and ends those at a NIC that
// is gone.
func (fw *Forwarder) reviewGreetings(now int64) {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.all() {
		if c.in.Closed.Load() {
			g.forget(c)
		} else if c.waitsForName() && !fw.needsName(c) {
			g.put(c, waitTurn)
		}
	}
	var out iface.Outbox
	fw.takeTurns(&out, now)
	out.Flush()
}

// endDeniedGreetings ends the greetings of hosts that are denied.
func (fw *Forwarder) endDeniedGreetings() {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.all() {
		if fw.denied.Has(c.in, c.key.Src) {
			g.forget(c)
		}
	}
}

// answerAgain repeats the SYN-ACK to a silent client. If the client's only packet is lost, the client may
// wait for the server to speak.
func (fw *Forwarder) answerAgain(c *greeting, out *iface.Outbox, now int64) {
	if a, verdict := c.parse(&c.syn, out, now); verdict == packet.Keep {
		fw.answer(c, a)
	}
}

// waitsForName tells whether the client has begun to speak, and the bridge reads on.
func (c *greeting) waitsForName() bool { return c.order == waitQUIC || c.order == waitName }

// needsName tells whether the segment for a greeting depends on a name.
func (fw *Forwarder) needsName(c *greeting) bool {
	bridge := fw.rules.Load().Bridges[c.in]
	return bridge == nil || bridge.Decisions.NeedsName(c.key.Tuple)
}

// retryAfter returns after which time, in ns, a SYN that was sent so many times comes again.
func retryAfter(tries int) int64 {
	const most = 20 // so that the time does not overflow
	return int64(firstRetry) * (1<<min(tries, most) - 1)
}

// askAgain repeats the SYN to the server of a greeting if it is due, or gives up.
func (fw *Forwarder) askAgain(c *greeting, out *iface.Outbox, now int64) {
	fl, _ := fw.Flows.Lookup(c.key)
	waited := now - c.asked
	switch {
	case fl == nil || fl.Flags.Load()&flow.Greeted == 0: // it has been ended, or evicted
		fw.refuseGreeting(c, out, now)
	case waited >= int64(ServerTime):
		fw.Flows.Remove(fl, now)
		fw.refuseGreeting(c, out, now)
	case waited >= retryAfter(c.tries):
		fw.askServer(c, fl, out, now)
	}
}
