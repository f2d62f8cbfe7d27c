package sites

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// file is the name by which a successor knows the listening socket of a place.
func (p place) file() string { return fmt.Sprintf("tcp/%s/%s", p.netns, p.local) }

// Arrangement returns a number that changes when the results of Files and PacketFiles may have
// changed. After Yield it stays the same.
func (s *Sockets) Arrangement() uint64 { return s.arrangement.Load() }

func (s *Sockets) rearranged() {
	if !s.left.Load() {
		s.arrangement.Add(1)
	}
}

// PacketFiles returns the sockets of UDP. While somebody has them open, the kernel does not refuse
// datagrams. A successor does not take them over.
func (s *Sockets) PacketFiles() (succession.Files, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make(succession.Files)
	for c := range s.packets {
		if err := c.files(files); err != nil {
			return nil, errors.Join(err, files.Close())
		}
	}
	return files, nil
}

// Files returns the listening sockets of TCP for a successor. UDP sockets need none of it, because
// those of both processes overlap (SO_REUSEPORT).
func (s *Sockets) Files() (succession.Files, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := make(succession.Files)
	for _, t := range s.streams {
		file, err := t.duplicate()
		if err != nil {
			return nil, errors.Join(err, files.Close())
		}
		if file != nil {
			files[t.at.file()] = file
		}
	}
	return files, nil
}

// inheritance is what a predecessor has left to this process.
type inheritance struct {
	files     succession.Files // the listening sockets that no listener has taken
	confirmed chan struct{}    // closed when they are this process's; nil if there is no predecessor
}

func (i *inheritance) isConfirmed() bool {
	select {
	case <-i.confirmed:
		return true
	default:
		return false
	}
}

// Inherit lets listeners take over the listening sockets of a predecessor, with the connections
// that wait in them. Until [Sockets.Confirm] they remain the predecessor's: this process accepts
// nothing from them and does not end them, because its configuration may still fail to start.
func (s *Sockets) Inherit(files succession.Files) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited = &inheritance{files, make(chan struct{})}
}

// Confirm makes the predecessor's sockets this process's, and closes those that no listener has taken.
func (s *Sockets) Confirm() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.inherited; i.confirmed != nil && !i.isConfirmed() {
		close(i.confirmed)
	}
	return s.inherited.files.Close()
}

// Yield stops accepting connections, because a successor does, or the next process will. The servers
// get the connections that were accepted, and begin to answer their requests, within two seconds;
// kept-alive connections end as in [Sockets.Drain]. Other connections wait in the sockets, and the ports
// stay open, also when the listeners close: whoever else has the files that [Sockets.Files] gave
// accepts them.
func (s *Sockets) Yield() {
	end := time.Now().Add(handOverTime)
	for segment := range s.stopAccepting() {
		s.Drain(segment)
	}
	for pause := time.Millisecond; s.isAwaited() && time.Now().Before(end); pause = min(2*pause, 20*time.Millisecond) {
		time.Sleep(pause)
	}
}

// stopAccepting returns the segments on which connections were accepted.
func (s *Sockets) stopAccepting() (segments map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left.Store(true)
	segments = make(map[string]bool)
	for _, t := range s.streams {
		if t.yield() {
			segments[t.listeners[0].at.Segment] = true
		}
	}
	return segments
}

// isAwaited tells whether a connection has been accepted whose server has not begun to answer its first
// request.
func (s *Sockets) isAwaited() (awaited bool) {
	s.mu.Lock()
	for _, t := range s.streams {
		awaited = awaited || t.isOffering()
	}
	s.mu.Unlock()
	for _, c := range s.watched.pending() {
		if !c.http2.Load() { // otherwise GOAWAY ends the connection
			c.interruptIfSilent(time.Now().Add(-patience))
		}
		awaited = true
	}
	return awaited
}

// yield makes the socket accept no more, and supersedes the listeners. It returns false if there is no
// socket.
func (s *stream) yield() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == nil {
		return false
	}
	s.yielded = true
	_ = s.socket.Listener.(*net.TCPListener).SetDeadline(time.Unix(1, 0)) // fails only on a closed one
	for _, l := range s.listeners {
		l.superseded.Store(true)
	}
	return true
}

// isOffering tells whether a connection has been accepted that no server has begun to serve.
func (s *stream) isOffering() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == nil {
		return false
	}
	select {
	case <-s.socket.ended:
	default:
		return true
	}
	return slices.ContainsFunc(s.listeners, func(l *listener) bool { return l.offers.Load() > 0 })
}
