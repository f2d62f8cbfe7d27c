package sites

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// listener is the share that one configuration has of the streams at its addresses.
type listener struct {
	sockets   *Sockets
	streams   []*stream // one for each address
	at        Address
	keepAlive net.KeepAliveConfig
	port      func() // releases the port; guarded by the lock of Sockets

	accepting  atomic.Bool  // Accept has been called
	superseded atomic.Bool  // a newer listener has taken over
	offers     atomic.Int32 // connections that it may get, or that its server has not begun to serve
	accepted   atomic.Int32 // those of the offers that Accept has returned

	diverted sync.Once
	serve    atomic.Pointer[func(*Conn) (leave bool)] // nil if it is not diverted

	handed    chan accepted
	closed    chan struct{}
	closeOnce sync.Once
}

// ready tells whether the listener may take over.
func (l *listener) ready() bool {
	if accepting := l.accepting.Load(); !accepting || l.at.Started == nil {
		return accepting
	}
	select {
	case <-l.at.Started:
		return true
	default:
		return false
	}
}

// Accept waits for a connection. If the segment is stopped, it waits for the start. The
// connection's RemoteAddr is the real client's address, and its LocalAddr is the address
// that the client dialed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed: // a closed listener accepts nothing, even if something waits
		return nil, l.closedError()
	default:
	}
	l.offers.Add(-l.accepted.Swap(0)) // net/http has called ConnContext for them
	l.accepts()
	var a accepted
	select {
	case a = <-l.handed:
		l.accepted.Add(1)
	case <-l.closed:
		return nil, l.closedError()
	}
	if a.err != nil {
		return nil, a.err
	}
	if left, ok := a.conn.(*Conn); ok {
		return left.moved(l), nil
	}
	return l.conn(a.conn.(*net.TCPConn), a.from), nil
}

// accepts records that the server has called Accept.
func (l *listener) accepts() {
	if l.accepting.Swap(true) {
		return
	}
	for _, t := range l.streams {
		t.mu.Lock()
		t.change()
		t.mu.Unlock()
	}
}

func (l *listener) conn(c *net.TCPConn, from *socket) *Conn {
	if l.keepAlive != from.stream.keepAlive {
		// This fails only on a dead connection. Its server finds out by reading.
		_ = c.SetKeepAliveConfig(l.keepAlive)
	}
	own := &Conn{TCPConn: c, client: c.RemoteAddr(), dialed: c.LocalAddr(), listener: l}
	ends, ok := l.sockets.plane.Ends(l.at.Segment, config.TCP, addrPort(c.LocalAddr()), addrPort(c.RemoteAddr()))
	if ok { // otherwise the client is on this host
		own.client, own.dialed = net.TCPAddrFromAddrPort(ends.Client), net.TCPAddrFromAddrPort(ends.Dialed)
	}
	return own
}

// Close wakes Accept. The last listener closes the sockets.
func (l *listener) Close() error {
	err := l.closedError()
	l.closeOnce.Do(func() {
		close(l.closed)
		err = l.sockets.drop(l)
	})
	return err
}

// Addr returns the segment's first address, even while the segment is stopped.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at.first()) }

func (l *listener) closedError() error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}

// keepAliveOf returns the keep-alive that package net makes of a ListenConfig. By default
// it is on.
func keepAliveOf(cfg net.ListenConfig) net.KeepAliveConfig {
	if !cfg.KeepAliveConfig.Enable && cfg.KeepAlive >= 0 {
		return net.KeepAliveConfig{Enable: true, Idle: cfg.KeepAlive}
	}
	return cfg.KeepAliveConfig
}
