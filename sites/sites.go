// Package sites opens the listeners of servers on a segment.
//
// Such a server is bound to the segment's own address. The segment sees clients under
// aliases, but the listeners of this package show the server the real clients. While a
// listener is open, its port can be entered. The listeners of one configuration hand over
// to those of the next without losing a connection.
package sites

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

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
	Segment string       // the segment's name
	Netns   string       // the segment's network namespace; "" is the host's
	Addrs   []netip.Addr // the segment's own addresses: at least one, and at most one of a family
	Port    uint16       // other than 0

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

// places returns where the sockets belong, one for each address.
func (a Address) places() (places []place) {
	for _, addr := range a.Addrs {
		places = append(places, place{a.Netns, netip.AddrPortFrom(addr, a.Port)})
	}
	return places
}

// first returns the address that stands for all of them.
func (a Address) first() netip.AddrPort { return netip.AddrPortFrom(a.Addrs[0], a.Port) }

// network returns package net's name for TCP or UDP on the place's family. An IPv6 socket
// under this name never carries IPv4 (IPV6_V6ONLY).
func (p place) network(transport string) string {
	if p.local.Addr().Is4() {
		return transport + "4"
	}
	return transport + "6"
}

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

	inherited   *inheritance
	left        atomic.Bool // Yield was called
	arrangement atomic.Uint64
}

// NewSockets returns an empty set of sockets on the segments of a data plane.
func NewSockets(plane Plane) *Sockets {
	return &Sockets{
		plane:     plane,
		streams:   make(map[place]*stream),
		packets:   make(map[*packetConn]struct{}),
		stopped:   make(map[string]bool),
		inherited: &inheritance{},
	}
}

// Listen opens a TCP listener, with a socket for each address of the segment. Listeners on
// one address may overlap: they share one socket, and connections go to the newest one that
// has started and whose server accepts. On a stopped segment the sockets open with
// [Sockets.Start].
//
// The listener survives the removal and the recreation of the VNIC, because a bound socket
// outlives its address. cfg.Control applies when the socket is made. The keep-alive
// settings of cfg apply to this listener's own connections.
func (s *Sockets) Listen(ctx context.Context, at Address, cfg net.ListenConfig) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &listener{
		sockets:   s,
		at:        at,
		keepAlive: keepAliveOf(cfg),
		port:      func() {},
		handed:    make(chan accepted),
		closed:    make(chan struct{}),
	}
	for _, where := range at.places() {
		shared, ok := s.streams[where]
		if !ok {
			shared = newStream(where, cfg, s.inherited)
		}
		l.streams = append(l.streams, shared)
	}
	if !s.stopped[at.Segment] {
		if err := s.open(ctx, l); err != nil {
			return nil, err
		}
		l.port = s.openPort(config.TCP, at)
	}
	for _, t := range l.streams {
		s.streams[t.at] = t
		t.add(l)
	}
	s.rearranged()
	return l, nil
}

// open opens the sockets of a new listener: all or none.
func (s *Sockets) open(ctx context.Context, l *listener) error {
	for _, t := range l.streams {
		err := t.open(ctx, s.plane, l.at.Segment)
		if err == nil {
			continue
		}
		for _, t := range l.streams {
			if len(t.listeners) == 0 { // no other listener shares it
				_ = t.close(0) // the first error counts
			}
		}
		return err
	}
	return nil
}

// drop takes a listener from its sockets, and closes each socket after its last listener.
func (s *Sockets) drop(l *listener) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rearranged()
	l.port()
	for _, t := range l.streams {
		if t.remove(l) {
			delete(s.streams, t.at)
			err = errors.Join(err, t.close(0))
		}
	}
	return err
}

// ListenPacket opens UDP on a segment, with a socket for each address of the segment. The
// peers of the result are the real clients. Sockets on one address may overlap
// (SO_REUSEPORT). On a stopped segment reads wait for [Sockets.Start]. The result gives no
// access to reads and writes of the sockets beneath, because there the clients are aliases.
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
	s.rearranged()
}

// Readdress moves the open UDP sockets to the present addresses and namespaces of their
// segments, which at returns. TCP does not need this, because each configuration opens its
// own TCP listeners. Caddy keeps one QUIC listener, known by the segment's name, over all
// reloads.
func (s *Sockets) Readdress(ctx context.Context, at func(segment string) (addrs []netip.Addr, netns string, ok bool)) error {
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.packets))
	s.mu.Unlock()
	for _, c := range open {
		addrs, netns, ok := at(c.at.Segment)
		if !ok {
			continue // its server is about to close it
		}
		if err := c.move(ctx, addrs, netns); err != nil {
			return err
		}
	}
	return nil
}

// openPort opens a socket's port until the first call of release, or for good if [Sockets.Yield] is
// called before.
func (s *Sockets) openPort(proto config.Protocol, at Address) (release func()) {
	port := s.plane.OpenPort(at.Segment, config.PortRange{Protocol: proto, First: at.Port, Last: at.Port})
	return sync.OnceFunc(func() {
		if !s.left.Load() {
			port()
		}
	})
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
