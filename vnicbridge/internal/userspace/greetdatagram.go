package userspace

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/names"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// A QUIC client tells the name in its first datagrams, and nobody need answer before. So the bridge
// holds them until it knows the name, and delivers them in their order. Nothing is shifted then, so
// the flow is one like others, but for the connection ids that the server chooses (N10).

// chooseByDatagram returns the segment of a flow that a client's datagram begins and whose segment
// depends on a name, or nil if no segment gets it. held tells that the name is not known yet.
func (fw *Forwarder) chooseByDatagram(a *Arrival, rules *rules.Ruleset, bridge *rules.BridgeRules) (to *iface.Iface, held bool) {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	if server, known := g.servers.find(a); known && rules.Segments[server.vnic] != nil {
		a.rule = server.rule
		return server.vnic, false
	}
	c := g.known[a.key()]
	if c == nil || c.in != a.In {
		c = &greeting{key: a.key(), in: a.In, began: a.Now}
	}
	s := segment{frame: *a.Frame, data: a.UDPPayload()}
	name, reading := names.OfDatagrams(append(c.datagrams(), s.cut()...))
	if reading == names.More && !a.Fragment && len(c.held)+1 < heldPackets && c.size()+len(s.data) < names.MaxBytes {
		g.holdDatagram(c, s)
		return nil, true
	}
	to, label := bridge.Decisions.DecideNamed(a.Tuple, name)
	a.chosen, a.rule = choice{a.In.Index, label}, fw.labels.Load().Number(label)
	return to, false
}

// holdDatagram keeps a datagram of a client.
func (g *greetings) holdDatagram(c *greeting, s segment) {
	if c.place == nil {
		g.add(c)
	}
	g.keep(c, segmentOf(&s.frame, 0, s.data, false))
}

// datagrams returns the payloads of the datagrams that the greeting holds.
func (c *greeting) datagrams() (all [][]byte) {
	for i := range c.held {
		all = append(all, c.held[i].cut()...)
	}
	return all
}

// size returns how many bytes the client has sent.
func (c *greeting) size() (n int) {
	for i := range c.held {
		n += len(c.held[i].data)
	}
	return n
}

// cut returns the payloads of the datagrams for which a frame stands, which may be a super-packet.
func (s *segment) cut() (all [][]byte) {
	each, rest := s.frame.GsoSize(), s.data
	for each > 0 && len(rest) > each {
		all, rest = append(all, rest[:each]), rest[each:]
	}
	return append(all, rest)
}

// releaseDatagrams delivers what is held of the client of a datagram, whose flow is open, or drops it
// if the flow is refused.
func (fw *Forwarder) releaseDatagrams(a *Arrival, fl *flow.Flow, refused packet.DropReason) {
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	if fl != nil && a.chosen.nic != 0 {
		g.chosen[a.chosen]++
	}
	c := g.known[a.key()]
	if c == nil {
		return
	}
	g.forget(c)
	if fl != nil {
		fw.deliver(c, fl, packet.Shift{}, a)
	} else {
		c.in.Drops[refused].Add(uint64(len(c.held)))
	}
}

// openUnnamed opens the flow of a client that has not told a name in time.
func (fw *Forwarder) openUnnamed(c *greeting, out *iface.Outbox, now int64) {
	fw.greetings.forget(c)
	rules := fw.rules.Load()
	bridge := rules.Bridges[c.in]
	a, verdict := c.parse(&c.held[0].frame, out, now)
	if verdict == packet.Keep && bridge == nil {
		verdict = packet.DropNoSegment
	}
	if verdict == packet.Keep {
		to, label := bridge.Decisions.DecideNamed(a.Tuple, "")
		a.named, a.rule = true, fw.labels.Load().Number(label)
		var fl *flow.Flow
		if fl, verdict = fw.admitTo(a, rules, bridge, to); fl != nil {
			fw.greetings.chosen[choice{c.in.Index, label}]++
			fw.deliver(c, fl, packet.Shift{}, a)
			return
		}
	}
	c.in.Drops[verdict].Add(uint64(len(c.held)))
}

// maxServers bounds how many connection ids are remembered, the latest ones.
const maxServers = 1 << 16

// quicServers are the QUIC servers by the connection ids that they have chosen. A client whose NAT
// gives it another port begins a new flow, and is found again by the id.
type quicServers struct {
	known   flow.BoundedMap[connectionID, quicServer]
	lengths [names.MaxIDLen + 1]bool // of the ids
}

type quicServer struct {
	vnic *iface.Iface
	rule uint32 // which has chosen it for the client
}

type connectionID struct {
	nic   uint32 // the iface at which the client is
	bytes string
}

// find returns the server to which a client's datagram belongs. The header of most
// datagrams does not tell how long the id is (RFC 9000 §17.3).
func (s *quicServers) find(a *Arrival) (server quicServer, known bool) {
	rest := a.UDPPayload()
	if names.IsLongHeader(rest) {
		id, _, ok := names.ConnectionIDs(rest)
		if !ok {
			return quicServer{}, false
		}
		return s.known.Get(connectionID{a.In.Index, string(id)})
	}
	for n := 1; n <= names.MaxIDLen && n < len(rest); n++ {
		if !s.lengths[n] {
			continue
		}
		if server, known = s.known.Get(connectionID{a.In.Index, string(rest[1 : 1+n])}); known {
			return server, true
		}
	}
	return quicServer{}, false
}

// learnServer remembers the connection id that a QUIC server has chosen, which only packets with a
// long header tell.
func (fw *Forwarder) learnServer(a *Arrival, fl *flow.Flow, dir flow.Direction) {
	if dir != flow.Reverse || a.Later {
		return
	}
	_, id, ok := names.ConnectionIDs(a.UDPPayload())
	if !ok || len(id) == 0 || len(id) > names.MaxIDLen {
		return
	}
	g := fw.greetings
	g.mu.Lock()
	defer g.mu.Unlock()
	key := connectionID{fl.In.Index, string(id)}
	server := quicServer{fl.Out, fl.Rule()}
	if other, known := g.servers.known.Get(key); !known || other != server {
		g.servers.known.Put(key, server, maxServers)
		g.servers.lengths[len(id)] = true
	}
}

// isDatagram tells whether the greeting is of a client that sends datagrams.
func (c *greeting) isDatagram() bool { return c.key.Proto == config.UDP }
