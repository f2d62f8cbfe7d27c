package sites

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// idleConns are the HTTP connections that wait for a request, which only their
// server knows: on the socket, one whose request takes long looks the same.
type idleConns struct {
	mu      sync.Mutex
	idle    map[net.Conn]*idleness
	stopped map[string]bool // segments on which none is kept
}

// idleness is one time that a connection is idle.
type idleness struct{ segment string }

// ConnState is a hook for [http.Server.ConnState], by which [Sockets.Stop] closes
// idle connections: those there are, and the others when they become idle.
func (s *Sockets) ConnState(c net.Conn, state http.ConnState) {
	if state == http.StateIdle {
		s.idle.add(c)
	} else {
		s.idle.remove(c)
	}
}

func (i *idleConns) add(c net.Conn) {
	own := connOf(c)
	if own == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.idle == nil {
		i.idle = make(map[net.Conn]*idleness)
	}
	now := &idleness{own.listener.at.Segment}
	i.idle[c] = now
	if i.stopped[now.segment] {
		i.closeSoon(c, now)
	}
}

func (i *idleConns) remove(c net.Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.idle, c)
}

// closeSoon closes a connection, if it is still idle by then: an HTTP/2 server
// has yet to flush its last response when it says that a connection is idle.
func (i *idleConns) closeSoon(c net.Conn, since *idleness) {
	time.AfterFunc(linger, func() {
		i.mu.Lock()
		due := i.stopped[since.segment] && i.idle[c] == since
		i.mu.Unlock()
		if due {
			_ = c.Close() // its server finds out by reading
		}
	})
}

// stop closes the idle connections of a segment, from now on.
func (i *idleConns) stop(segment string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped == nil {
		i.stopped = make(map[string]bool)
	}
	i.stopped[segment] = true
	for c, since := range i.idle {
		if since.segment == segment {
			i.closeSoon(c, since)
		}
	}
}

func (i *idleConns) start(segment string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.stopped, segment)
}
