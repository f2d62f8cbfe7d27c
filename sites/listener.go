package sites

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// listener is one configuration's share of a stream.
type listener struct {
	sockets   *Sockets
	stream    *stream
	at        Address
	keepAlive net.KeepAliveConfig
	port      func() // lets the port go; of Sockets' lock
	accepting bool   // Accept has been called; of the stream's lock

	diverted sync.Once
	serve    atomic.Pointer[func(*Conn) (leave bool)] // nil if it is not diverted

	handed    chan accepted
	closed    chan struct{}
	closeOnce sync.Once
}

// Accept waits for a connection, and for the segment to start if it is stopped.
// The connection's RemoteAddr is the real client's, its LocalAddr what that dialed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed: // a closed listener takes nothing, even if it could
		return nil, l.closedError()
	default:
	}
	l.stream.accepts(l)
	var a accepted
	select {
	case a = <-l.handed:
	case <-l.closed:
		return nil, l.closedError()
	}
	if a.err != nil {
		return nil, a.err
	}
	if left, ok := a.conn.(*Conn); ok {
		return left, nil
	}
	return l.conn(a.conn.(*net.TCPConn)), nil
}

func (l *listener) conn(c *net.TCPConn) *Conn {
	if l.keepAlive != l.stream.keepAlive {
		// It fails on a connection that is dead already, which its server
		// finds out by reading.
		_ = c.SetKeepAliveConfig(l.keepAlive)
	}
	own := &Conn{TCPConn: c, client: c.RemoteAddr(), dialed: c.LocalAddr(), listener: l}
	ends, ok := l.sockets.plane.Ends(l.at.Segment, vnicbridge.TCP, addrPort(c.LocalAddr()), addrPort(c.RemoteAddr()))
	if ok { // else it is from this host itself
		own.client, own.dialed = net.TCPAddrFromAddrPort(ends.Client), net.TCPAddrFromAddrPort(ends.Dialed)
	}
	return own
}

// Close wakes Accept. The socket closes with the last listener.
func (l *listener) Close() error {
	err := l.closedError()
	l.closeOnce.Do(func() {
		close(l.closed)
		err = l.sockets.drop(l)
	})
	return err
}

// Addr is the segment's address, also while the segment is stopped.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at.Local) }

func (l *listener) closedError() error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}

// keepAliveOf is the keep-alive that package net makes of a ListenConfig: on by
// default.
func keepAliveOf(cfg net.ListenConfig) net.KeepAliveConfig {
	if !cfg.KeepAliveConfig.Enable && cfg.KeepAlive >= 0 {
		return net.KeepAliveConfig{Enable: true, Idle: cfg.KeepAlive}
	}
	return cfg.KeepAliveConfig
}
