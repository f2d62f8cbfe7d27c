package sites

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// file is the name by which a successor knows the listening socket of a place.
func (p place) file() string { return fmt.Sprintf("tcp/%s/%s", p.netns, p.local) }

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

// Inherit lets listeners take over the listening sockets of a predecessor, with the connections
// that wait in them.
func (s *Sockets) Inherit(files succession.Files) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited = files
}

// Confirm closes the sockets of a predecessor that no listener has taken.
func (s *Sockets) Confirm() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inherited.Close()
}

// Yield stops accepting connections, because a successor does. The servers get the connections
// that were accepted, with time for their first requests, and end the kept-alive ones as in
// [Sockets.Drain].
func (s *Sockets) Yield() {
	s.mu.Lock()
	segments := make(map[string]bool)
	var ended []<-chan struct{}
	for _, t := range s.streams {
		if socket := t.yield(); socket != nil {
			ended = append(ended, socket.ended)
			segments[t.listeners[0].at.Segment] = true
		}
	}
	s.mu.Unlock()
	end := time.After(handOverTime)
	for _, c := range ended {
		select {
		case <-c:
		case <-end: // its server does not accept
		}
	}
	for segment := range segments {
		s.Drain(segment)
	}
	time.Sleep(patience)
}

// yield makes the socket accept no more, and returns it; nil if there is none.
func (s *stream) yield() *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == nil {
		return nil
	}
	_ = s.socket.Listener.(*net.TCPListener).SetDeadline(time.Unix(1, 0)) // fails only on a closed one
	return s.socket
}
