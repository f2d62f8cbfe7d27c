// Package sites opens the listeners of servers on a segment.
//
// Such a server is bound to the segment's own address. The segment sees clients under
// aliases, but the listeners of this package show the server the real clients. While a
// listener is open, its port can be entered. The listeners of one configuration hand over
// to those of the next without losing a connection.
package sites

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Plane is the part of the data plane that listeners use; *[vnicbridge.Plane] implements
// it.
type Plane interface {
	// OpenPort lets clients enter a port of a segment, until release is called.
	OpenPort(segment string, port config.PortRange) (release func())
	// Ends returns the client's ends of a connection. local and remote are the ends that
	// the server's socket has.
	Ends(segment string, proto config.Protocol, local, remote netip.AddrPort) (ends vnicbridge.Ends, ok bool)
	// Alias returns the address at which a server's socket on a segment reaches a client. If
	// ends.Dialed is not known, it takes any of the client's flows.
	Alias(segment string, proto config.Protocol, local netip.AddrPort, ends vnicbridge.Ends) (alias netip.AddrPort, ok bool)
	// In runs a function in a segment's network namespace.
	In(segment string, f func() error) error
}

// Address is a place where a server listens.
type Address struct {
	Segment string         // the segment's name
	Netns   string         // the segment's network namespace; "" is the host's
	Local   netip.AddrPort // the segment's own address, and a port other than 0

	// Started is closed when the configuration of the listener has started; nil if that is so
	// already. Until then the configuration may still fail, so a TCP listener does not take
	// over from an older one.
	Started <-chan struct{}
}

// place identifies the socket that listeners on one address share.
type place struct {
	netns string
	local netip.AddrPort
}

func (a Address) place() place { return place{a.Netns, a.Local} }

// Sockets are the sockets that this process has on its segments. The process has one
// Sockets, because configurations share sockets while one takes over from the other.
type Sockets struct {
	plane   Plane
	idle    idleConns
	watched watchedConns

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
// one socket, and connections go to the newest one that has started and whose
// server accepts. On a stopped segment the socket opens with [Sockets.Start].
//
// The listener survives the removal and the recreation of the VNIC, because a bound socket
// outlives its address. cfg.Control applies when the socket is made. The keep-alive
// settings of cfg apply to this listener's own connections.
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
		l.port = s.openPort(config.TCP, at)
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

// ListenPacket opens a UDP socket whose peers are the real clients. Sockets on one address
// may overlap (SO_REUSEPORT). On a stopped segment reads wait for [Sockets.Start]. The
// result gives no access to reads and writes of the socket beneath, because there the
// clients are aliases.
func (s *Sockets) ListenPacket(ctx context.Context, at Address, cfg net.ListenConfig) (net.PacketConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &packetConn{sockets: s, at: at, cfg: reusable(cfg), port: func() {}, stopped: s.stopped[at.Segment]}
	if err := c.bind(ctx); err != nil {
		return nil, err
	}
	if !c.stopped {
		c.port = s.openPort(config.UDP, at)
	}
	s.packets[c] = struct{}{}
	return c, nil
}

func (s *Sockets) forget(c *packetConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.packets, c)
}

// Readdress moves the open UDP sockets to the present addresses and namespaces of their
// segments, which at returns. TCP does not need this, because each configuration opens its
// own TCP listeners. Caddy keeps one QUIC listener, known by the segment's name, over all
// reloads.
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

// openPort opens a socket's port until the first call of release.
func (s *Sockets) openPort(proto config.Protocol, at Address) (release func()) {
	port := at.Local.Port()
	return sync.OnceFunc(s.plane.OpenPort(at.Segment, config.PortRange{Protocol: proto, First: port, Last: port}))
}

// addrPort returns a socket's address in the data plane's form: IPv4 is unmapped.
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
