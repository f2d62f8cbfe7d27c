package sites

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// stream is a TCP address that the listeners of all living configurations share. It has one
// socket, because with one socket for each listener (SO_REUSEPORT) the kernel would reset
// the connections in the accept queue of a listener that closes. While the segment is
// stopped, the stream has no socket.
type stream struct {
	at        place
	cfg       net.ListenConfig
	keepAlive net.KeepAliveConfig // of the connections that it accepts
	inherited *inheritance        // from a predecessor

	mu        sync.Mutex
	socket    *socket
	yielded   bool          // another process accepts from the socket
	listeners []*listener   // the newest first
	changed   chan struct{} // closed when the listeners do
}

// socket is one listening socket.
type socket struct {
	net.Listener
	stream *stream
	left   *inheritance  // what it belonged to; nil: this process has made it
	done   chan struct{} // closed when nothing more may be handed out
	ended  chan struct{} // closed when nothing more is accepted
}

// isOwn tells whether no predecessor needs the socket any more.
func (s *socket) isOwn() bool { return s.left == nil || s.left.isConfirmed() }

// accepted is a result of the socket's Accept, or a connection that was left.
type accepted struct {
	conn net.Conn
	err  error
	from *socket // nil for a connection that was left
}

func newStream(at place, cfg net.ListenConfig, inherited *inheritance) *stream {
	// Connections inherit the keep-alive of the socket, because package net would need four
	// system calls for each connection. A listener with other settings sets its own.
	keepAlive := keepAliveOf(cfg)
	cfg.KeepAlive, cfg.KeepAliveConfig = -1, net.KeepAliveConfig{}
	// For the bridge, another MPTCP subflow is another flow, which may go to another
	// segment.
	cfg.SetMultipathTCP(false)
	// A site of the same Caddy may have the port on all addresses.
	return &stream{at: at, cfg: reusable(cfg), keepAlive: keepAlive, inherited: inherited, changed: make(chan struct{})}
}

// open opens the socket for a segment, unless it is open.
func (s *stream) open(ctx context.Context, plane Plane, segment string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket != nil {
		return nil
	}
	l, left, err := s.listen(ctx, plane, segment)
	if err != nil {
		return err
	}
	if err := bequeath(l.(*net.TCPListener), s.keepAlive); err != nil {
		l.Close()
		return fmt.Errorf("keep-alive of %s: %w", s.at.local, err)
	}
	s.socket = &socket{l, s, left, make(chan struct{}), make(chan struct{})}
	go s.accept(s.socket)
	return nil
}

// listen makes the listening socket, or takes over a predecessor's; left is nil for one that it makes.
func (s *stream) listen(ctx context.Context, plane Plane, segment string) (l net.Listener, left *inheritance, err error) {
	if file := s.inherited.files.Take(s.at.file()); file != nil {
		defer func() { _ = file.Close() }() // the listener has a descriptor of its own
		if l, err = net.FileListener(file); err != nil {
			err = fmt.Errorf("taking over the listener on %s: %w", s.at.local, err)
		}
		return l, s.inherited, err
	}
	err = plane.In(segment, func() (err error) {
		l, err = s.cfg.Listen(ctx, s.at.network("tcp"), s.at.local.String())
		return err
	})
	return l, nil, err
}

// linger is the time that a closing socket still accepts the connections in its queue. The
// kernel resets the rest.
const linger = 100 * time.Millisecond

// close closes the socket, if it is open. Connections in its queue are still served, if a
// server accepts them within lingering.
func (s *stream) close(lingering time.Duration) error {
	s.mu.Lock()
	socket, yielded := s.socket, s.yielded
	s.socket = nil
	s.mu.Unlock()
	if socket == nil {
		return nil
	}
	if !socket.isOwn() {
		close(socket.done)
		return socket.Close() // the predecessor goes on
	}
	if d, ok := socket.Listener.(*net.TCPListener); ok && d.SetDeadline(time.Now().Add(lingering)) == nil {
		select {
		case <-socket.ended:
		case <-time.After(2 * lingering):
		}
	}
	close(socket.done)
	if !yielded {
		stopListening(socket.Listener.(*net.TCPListener))
	}
	return socket.Close()
}

// accept hands out the socket's connections until the socket is closed. It takes at most one
// connection in advance. The others wait in the kernel's queue.
func (s *stream) accept(from *socket) {
	defer close(from.ended)
	if from.left != nil {
		select {
		case <-from.left.confirmed:
		case <-from.done:
			return
		}
	}
	for {
		conn, err := from.Accept()
		if errors.Is(err, net.ErrClosed) || isTimeout(err) {
			return
		}
		if !s.hand(accepted{conn, err, from}) {
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// hand gives a connection to the newest listener whose server accepts, and waits for one. An
// older listener, which may be about to shut down, gets nothing once its successor accepts.
// hand tells whether a listener took the connection.
func (s *stream) hand(a accepted) bool {
	for {
		l, changed := s.newest()
		var to chan<- accepted
		if l != nil {
			if c, ok := a.conn.(*net.TCPConn); ok && l.divert(c, a.from) {
				l.offers.Add(-1)
				return true
			}
			to = l.handed
		}
		select {
		case to <- a:
			return true
		case <-changed:
		case <-a.from.done:
			withdraw(l)
			return false
		}
		withdraw(l)
	}
}

// withdraw undoes an offer that a listener has not taken.
func withdraw(l *listener) {
	if l != nil {
		l.offers.Add(-1)
	}
}

// leave hands a connection on to the newest listener that accepts, even if the connection's
// socket has been closed. It tells whether there was such a listener.
func (s *stream) leave(c *Conn, from *socket) bool {
	for {
		l, changed := s.newest()
		if l == nil {
			select {
			case <-changed: // the next configuration's server is about to accept
				continue
			case <-from.done:
				return false
			}
		}
		if serve := l.serve.Load(); serve != nil && l != c.listener {
			withdraw(l)
			c = c.moved(l)
			c.diverted.Store(true)
			if !(*serve)(c) {
				return true
			}
			continue
		}
		select {
		case l.handed <- accepted{conn: c}:
			return true
		case <-changed:
			withdraw(l)
		}
	}
}

// newest returns the newest listener that is ready; if there is none, the oldest one if it
// accepts; otherwise nil. It counts an offer to the listener, which the caller withdraws if
// the listener does not take the connection.
func (s *stream) newest() (l *listener, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.listeners {
		if l.ready() || l.accepting.Load() && i == len(s.listeners)-1 {
			l.offers.Add(1)
			return l, s.changed
		}
	}
	return nil, s.changed
}

func (s *stream) add(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = slices.Insert(s.listeners, 0, l)
}

// remove removes a listener, and tells whether it was the last.
func (s *stream) remove(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = slices.DeleteFunc(s.listeners, func(o *listener) bool { return o == l })
	s.change()
	return len(s.listeners) == 0
}

// change wakes those that wait for another listener. It needs the stream's lock.
func (s *stream) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}
