// Package sites opens the listeners of servers that live on a segment.
//
// Such a server is bound to the segment's own address, and sees its clients
// under aliases. The listeners of this package show it the real clients instead,
// keep the port enterable while they are open, and hand over to the listeners of
// the next configuration without losing a connection.
package sites

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// Plane is what the listeners need of the data plane; *[vnicbridge.Plane] has it.
type Plane interface {
	// OpenPort lets a port of a segment be entered until release is called.
	OpenPort(segment string, port vnicbridge.PortRange) (release func())
	// Ends are the client's ends of a connection, of which a server's socket on a
	// segment has local and remote.
	Ends(segment string, proto vnicbridge.Protocol, local, remote netip.AddrPort) (ends vnicbridge.Ends, ok bool)
	// Alias is where a server's socket on a segment reaches a client. If ends.Dialed
	// is not known, any of the client's flows will do.
	Alias(segment string, proto vnicbridge.Protocol, local netip.AddrPort, ends vnicbridge.Ends) (alias netip.AddrPort, ok bool)
	// In runs a function where a segment's sockets are opened.
	In(segment string, f func() error) error
}

// Address is where a server listens.
type Address struct {
	Segment string         // the segment's name
	Netns   string         // the network namespace in which it lives; "" is the host's
	Local   netip.AddrPort // the segment's own address, and a port other than 0
}

// place is what one socket can be bound to.
type place struct {
	netns string
	local netip.AddrPort
}

func (a Address) place() place { return place{a.Netns, a.Local} }

// Sockets are the sockets that this process has on its segments. There is one
// for the whole process, because configurations share sockets while one takes
// over from the other.
type Sockets struct {
	plane Plane
	idle  idleConns

	operating sync.Mutex // one Stop or Start at a time

	mu      sync.Mutex
	streams map[place]*stream
	packets map[*packetConn]struct{}
	stopped map[string]bool // segments
}

// NewSockets returns an empty set of sockets on the segments of a data plane.
func NewSockets(plane Plane) *Sockets {
	return &Sockets{
		plane:   plane,
		streams: make(map[place]*stream),
		packets: make(map[*packetConn]struct{}),
		stopped: make(map[string]bool),
	}
}

// Listen opens a TCP listener. Listeners on one address may overlap: they share
// one socket, and connections go to the newest one whose server accepts. On a
// stopped segment the socket opens with [Sockets.Start].
//
// The listener goes on working when the VNIC is deleted and made again: a bound
// socket outlives its address. Of cfg, Control acts when the socket is made, and
// the keep-alive settings on each listener's own connections.
func (s *Sockets) Listen(ctx context.Context, at Address, cfg net.ListenConfig) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	shared, ok := s.streams[at.place()]
	if !ok {
		shared = newStream(at.Local, cfg)
	}
	l := &listener{
		sockets:   s,
		stream:    shared,
		at:        at,
		keepAlive: keepAliveOf(cfg),
		port:      func() {},
		handed:    make(chan accepted),
		closed:    make(chan struct{}),
	}
	if !s.stopped[at.Segment] {
		if err := shared.open(ctx, s.plane, at.Segment); err != nil {
			return nil, err
		}
		l.port = s.openPort(vnicbridge.TCP, at)
	}
	s.streams[at.place()] = shared
	shared.add(l)
	return l, nil
}

// drop takes a listener from its socket, and closes the socket after its last.
func (s *Sockets) drop(l *listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.port()
	if !l.stream.remove(l) {
		return nil
	}
	delete(s.streams, l.at.place())
	return l.stream.close(0)
}

// ListenPacket opens a UDP socket whose peers are the real clients. Sockets on
// one address may overlap (SO_REUSEPORT). On a stopped segment nothing is read
// before [Sockets.Start]. It does not give access to the socket beneath for
// reading and writing, where the clients are aliases.
func (s *Sockets) ListenPacket(ctx context.Context, at Address, cfg net.ListenConfig) (net.PacketConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &packetConn{sockets: s, at: at, cfg: reusable(cfg), port: func() {}, stopped: s.stopped[at.Segment]}
	if err := c.bind(ctx); err != nil {
		return nil, err
	}
	if !c.stopped {
		c.port = s.openPort(vnicbridge.UDP, at)
	}
	s.packets[c] = struct{}{}
	return c, nil
}

func (s *Sockets) forget(c *packetConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.packets, c)
}

// Readdress moves the open UDP sockets to where their segments are now; at gives
// the address and the namespace. TCP needs no such thing, as each configuration opens
// its own listeners, but Caddy keeps one QUIC listener, known by the segment's
// name, over all reloads.
func (s *Sockets) Readdress(ctx context.Context, at func(segment string) (addr netip.Addr, netns string, ok bool)) error {
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.packets))
	s.mu.Unlock()
	for _, c := range open {
		addr, netns, ok := at(c.at.Segment)
		if !ok {
			continue // its server is about to close it
		}
		if err := c.move(ctx, addr, netns); err != nil {
			return err
		}
	}
	return nil
}

// openPort opens a socket's port, until release is called for the first time.
func (s *Sockets) openPort(proto vnicbridge.Protocol, at Address) (release func()) {
	port := at.Local.Port()
	return sync.OnceFunc(s.plane.OpenPort(at.Segment, vnicbridge.PortRange{Protocol: proto, First: port, Last: port}))
}

// addrPort is a socket's address as the data plane writes it.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
