package userspace

import (
	"container/list"
	"hash/maphash"
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
)

// MaxGreetings bounds the greetings, and MaxHeld the bytes that they hold. Beyond the former the
// bridge answers with SYN cookies (syncookie.go). If clients acknowledge those, or hold too much, it forgets
// greetings, the oldest first: those whose client may have forged its address, and then the others.
const (
	MaxGreetings = 1 << 14
	MaxHeld      = 32 << 20
)

// greetings are the connections that the bridge has answered and whose server has not answered
// yet.
type greetings struct {
	mu      lockorder.Mutex[lockorder.Greetings]
	known   map[flow.Key]*greeting // by the key of the client's packets
	held    int                    // bytes
	chosen  map[choice]uint64      // how many flows
	release func(flow.Key)         // ends tellHeld
	servers quicServers

	refusals refusals // of TCP servers
	seed     maphash.Seed

	synsUsed    int64 // the time up to which the rate of SYNs is used up, in ns (mayKeep)
	unnamedUsed int64 // the same for the rate of clients that go on without a name (goOn)

	orders [orderCount]list.List // of *greeting, the oldest first
}

// order names a list of greetings by what they wait for. The first lists make room first.
type order int

const (
	waitACK    order = iota // for an answer to the bridge's SYN-ACK: the client may have forged its address
	waitQUIC                // for the rest of what a QUIC client sends, which may have forged its address
	waitTurn                // for its turn to go on without a name (goOn)
	waitName                // for the rest of what a TCP client sends
	waitServer              // for the server
	orderCount
)

func newGreetings(release func(flow.Key)) *greetings {
	return &greetings{release: release, known: make(map[flow.Key]*greeting), chosen: make(map[choice]uint64), seed: maphash.MakeSeed()}
}

// tellHeld lets the programs drop what a client only repeats, until release.
func (fw *Forwarder) tellHeld(c *greeting) {
	fw.Flows.Hold(c.key, c.first+1, c.first+1+c.inOrder, c.number+1)
}

func (fw *Forwarder) release(client flow.Key) { fw.Flows.Release(client) }

// ForgetGreetings makes the forwarder as if it had greeted nobody yet. From seed follow the numbers
// that it gives to clients.
func (fw *Forwarder) ForgetGreetings(seed maphash.Seed) {
	fw.greetings = newGreetings(fw.release)
	fw.greetings.seed = seed
}

// add adds a greeting, whose client may have forged its address. It takes the place of another one
// of the same connection.
func (g *greetings) add(c *greeting) {
	if other := g.known[c.key]; other != nil {
		g.forget(other)
	}
	g.known[c.key] = c
	if c.isDatagram() {
		g.put(c, waitQUIC)
	} else {
		g.put(c, waitACK)
	}
	g.makeRoom(c)
}

// put puts a greeting at the end of a list, and takes it out of the one that it is in.
func (g *greetings) put(c *greeting, o order) {
	if c.place != nil {
		g.orders[c.order].Remove(c.place)
	}
	c.order, c.place = o, g.orders[o].PushBack(c)
}

// in yields the greetings of a list. The caller may forget the one that it gets, or put it into another
// list.
func (g *greetings) in(o order) iter.Seq[*greeting] {
	return func(yield func(*greeting) bool) {
		for e := g.orders[o].Front(); e != nil; {
			c := e.Value.(*greeting)
			e = e.Next()
			if !yield(c) {
				return
			}
		}
	}
}

// all yields the greetings of all lists, as in does.
func (g *greetings) all() iter.Seq[*greeting] {
	return func(yield func(*greeting) bool) {
		for o := range orderCount {
			for c := range g.in(o) {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// makeRoom forgets greetings other than c if there are too many, or if they hold too much.
func (g *greetings) makeRoom(c *greeting) {
	for oldest := range g.all() {
		if len(g.known) <= MaxGreetings && g.held <= MaxHeld {
			return
		}
		if oldest != c {
			g.forget(oldest)
		}
	}
}

// forget ends a greeting.
func (g *greetings) forget(c *greeting) {
	for _, s := range c.held {
		g.held -= s.size()
	}
	delete(g.known, c.key)
	g.release(c.key)
	g.orders[c.order].Remove(c.place)
}

// keep adds to what a greeting holds.
func (g *greetings) keep(c *greeting, s segment) {
	c.held = append(c.held, s)
	g.held += s.size()
	g.makeRoom(c)
}
