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
	leaving sync.Map // the segments on which none is kept; written under mu
}

// idleness is one time that a connection is idle.
type idleness struct {
	conn    *Conn
	reads   uint32     // of the connection, when it became idle
	goodbye sync.Mutex // held while GOAWAY is written
}

// ConnState is a hook for [http.Server.ConnState], by which [Sockets.Drain] and
// [Sockets.Stop] close idle connections: those there are, and the others when they
// become idle.
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
	now := &idleness{conn: own, reads: own.reads.Load()}
	i.idle[c] = now
	if own.Leaving() {
		i.closeSoon(c, now)
	}
}

// remove returns when nothing of ours is being written to the connection.
func (i *idleConns) remove(c net.Conn) {
	i.mu.Lock()
	was := i.idle[c]
	delete(i.idle, c)
	i.mu.Unlock()
	if was != nil {
		was.goodbye.Lock()
		defer was.goodbye.Unlock()
	}
}

// due tells whether a connection on which nothing has come since is to be closed.
func (i *idleConns) due(c net.Conn, since *idleness) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.idle[c] == since && since.conn.Leaving()
}

// farewell is how long an HTTP/2 client has, after GOAWAY, to close the connection.
const farewell = time.Second

// closeSoon closes a connection, if it is still idle by then: an HTTP/2 server
// has yet to flush its last response when it says that a connection is idle.
func (i *idleConns) closeSoon(c net.Conn, since *idleness) {
	time.AfterFunc(linger, func() {
		switch {
		case since.conn.http2.Load():
			i.goAway(c, since)
			time.AfterFunc(farewell, func() {
				if i.due(c, since) {
					_ = c.Close() // its server finds out by reading
				}
			})
		case i.due(c, since) && since.conn.reads.Load() == since.reads: // else a request is coming
			_ = c.Close()
		}
	})
}

// goAway asks the client of an idle HTTP/2 connection to send no more requests, as its
// server has no way to do. The server writes nothing of a response meanwhile, as it
// begins one by [idleConns.remove].
func (i *idleConns) goAway(c net.Conn, since *idleness) {
	since.goodbye.Lock()
	defer since.goodbye.Unlock()
	if !i.due(c, since) {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(farewell)) // if anything fails, the connection is dead
	_, _ = c.Write([]byte(goAwayFrame))
	_ = c.SetWriteDeadline(time.Time{})
}

// goAwayFrame is GOAWAY (RFC 9113, section 6.8) without an error: length, type, flags,
// stream, and the last stream, as which the greatest number stands for those to come.
const goAwayFrame = "\x00\x00\x08" + "\x07" + "\x00" + "\x00\x00\x00\x00" + "\x7f\xff\xff\xff" + "\x00\x00\x00\x00"

// leave closes the idle connections of a segment, from now on.
func (i *idleConns) leave(segment string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.leaving.Store(segment, nil)
	for c, since := range i.idle {
		if since.conn.listener.at.Segment == segment {
			i.closeSoon(c, since)
		}
	}
}

func (i *idleConns) stay(segment string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.leaving.Delete(segment)
}
