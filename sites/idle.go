package sites

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// idleConns are the HTTP connections that wait for a request. Only their server knows that
// they do, because on the socket a connection whose request takes long looks the same.
type idleConns struct {
	mu      sync.Mutex
	idle    map[net.Conn]*idleness
	leaving sync.Map // the segments that keep no idle connection
}

// idleness is one period in which a connection is idle.
type idleness struct {
	conn    *Conn
	reads   int        // the connection's count of reads when it became idle
	goodbye sync.Mutex // held while GOAWAY is written
}

// ConnState is a hook for [http.Server.ConnState]. With it, [Sockets.Drain] and
// [Sockets.Stop] close connections that are idle now, and others when they become idle.
func (s *Sockets) ConnState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		s.idle.add(c)
		return
	case http.StateClosed, http.StateHijacked:
		s.watched.forget(connOf(c))
	}
	s.idle.remove(c)
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
	now := &idleness{conn: own, reads: own.readsSoFar()}
	own.pending.Store(!own.diverted.Load()) // HandOver does not wait for a diverted one
	i.idle[c] = now
	if own.Leaving() {
		i.closeSoon(c, now)
	}
}

// remove returns when this package writes nothing more to the connection.
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

// due tells whether a connection must close because it is idle since then and its segment
// is leaving.
func (i *idleConns) due(c net.Conn, since *idleness) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.idle[c] == since && since.conn.Leaving()
}

// farewell is the time that an HTTP/2 client has to close the connection after GOAWAY.
const farewell = time.Second

// closeSoon closes a connection after a moment, if it is still idle then. An HTTP/2 server
// reports that a connection is idle before it has flushed the last response.
func (i *idleConns) closeSoon(c net.Conn, since *idleness) {
	time.AfterFunc(linger, func() {
		switch {
		case since.conn.listener.superseded.Load() && !since.conn.begun.Load():
			// HandOver waits for the first request.
		case since.conn.http2.Load():
			i.goAway(c, since)
			time.AfterFunc(farewell, func() {
				if i.due(c, since) {
					_ = c.Close() // the server finds out by reading
				}
			})
		case i.due(c, since) && since.conn.interrupt(since.reads): // otherwise a request is coming
			i.closeSoon(c, since)
		}
	})
}

// goAway asks the client of an idle HTTP/2 connection to send no more requests, because the
// server has no way to do so for one connection. Meanwhile the server writes no response,
// because it calls [idleConns.remove] before it begins one.
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
// stream, last stream. The greatest number as last stream covers all later streams.
const goAwayFrame = "\x00\x00\x08" + "\x07" + "\x00" + "\x00\x00\x00\x00" + "\x7f\xff\xff\xff" + "\x00\x00\x00\x00"

// leave closes the idle connections of a segment, until stay.
func (i *idleConns) leave(segment string) {
	i.leaving.Store(segment, nil)
	i.closeLeaving()
}

// closeLeaving closes the connections that are idle now and leaving.
func (i *idleConns) closeLeaving() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for c, since := range i.idle {
		if since.conn.Leaving() {
			i.closeSoon(c, since)
		}
	}
}

func (i *idleConns) stay(segment string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.leaving.Delete(segment)
}
