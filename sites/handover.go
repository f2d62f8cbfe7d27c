package sites

import (
	"sync"
	"time"
)

// watchedConns are the open connections of HTTP servers, except those that [Divert] has
// given away. Among them [Sockets.HandOver] finds the connections of superseded listeners.
type watchedConns struct {
	mu  sync.Mutex
	all map[*Conn]struct{}
}

// watch adds a connection whose server waits for the first request.
func (s *watchedConns) watch(c *Conn) {
	if c.diverted.Load() {
		return // its server hands it over itself
	}
	c.mu.Lock()
	c.lastRead = time.Now()
	c.mu.Unlock()
	c.pending.Store(!c.begun.Load()) // net/http can take over a response that has begun
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*Conn]struct{})
	}
	s.all[c] = struct{}{}
}

func (s *watchedConns) forget(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// pending returns the connections of superseded listeners whose server has not begun to
// answer a request.
func (s *watchedConns) pending() (conns []*Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		if c.pending.Load() && c.listener.superseded.Load() {
			conns = append(conns, c)
		}
	}
	return conns
}

const (
	// patience is the time that the client of a pending connection has to send more. If the
	// client is silent for longer, its connection closes.
	patience = time.Second
	// handOverTime is the time after which HandOver no longer waits.
	handOverTime = 2 * time.Second
)

// HandOver must be called before the HTTP servers of an earlier configuration shut down.
// Otherwise requests are lost: a net/http server that shuts down closes a connection
// without a response if it has not begun to answer the request. HandOver works for servers
// that call [Sockets.ConnState] and [Sockets.ConnContext].
//
// HandOver waits until a newer listener has taken over from each listener that has a newer
// one, and until the older ones have no connection on which a request is coming. Kept-alive
// connections end as in [Sockets.Drain]. HandOver returns after two seconds at the latest.
func (s *Sockets) HandOver() {
	end := time.Now().Add(handOverTime)
	for pause := time.Millisecond; s.handOver() && time.Now().Before(end); pause = min(2*pause, 20*time.Millisecond) {
		time.Sleep(pause)
	}
}

// handOver takes a step, and tells whether another one is needed.
func (s *Sockets) handOver() (again bool) {
	s.mu.Lock()
	begun := false
	for _, t := range s.streams {
		began, waits := t.supersede()
		begun, again = begun || began, again || waits
	}
	s.mu.Unlock()
	if begun {
		s.idle.closeLeaving()
	}
	s.idle.interruptSuperseded()
	for _, c := range s.watched.pending() {
		if !c.http2.Load() { // otherwise GOAWAY ends the connection
			c.interruptIfSilent(time.Now().Add(-patience))
		}
		again = true
	}
	return again
}

// supersede marks the listeners that a newer one has taken over from. It tells whether it
// has marked any, and whether the newest listener is not ready, or an older one may still get
// a connection.
func (s *stream) supersede() (began, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.listeners {
		if !l.ready() {
			waits = waits || i+1 < len(s.listeners)
			continue
		}
		for _, older := range s.listeners[i+1:] {
			began = !older.superseded.Swap(true) || began
			waits = waits || older.offers.Load() > 0
		}
		break
	}
	if began || waits { // another stream of the listener may have superseded it first
		s.change() // for a connection that has been offered to an older listener
	}
	return began, waits
}

// interruptSuperseded ends the idle HTTP/1 connections of superseded listeners. Their
// responses have been written when they become idle, so nothing must be waited for. A
// connection without a request is no HTTP/1 connection: net/http's HTTP/2 server reports it
// as idle before the first request.
func (i *idleConns) interruptSuperseded() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, since := range i.idle {
		if c := since.conn; c.listener.superseded.Load() && !c.diverted.Load() && c.begun.Load() && !c.http2.Load() {
			c.interrupt(since.reads)
		}
	}
}
