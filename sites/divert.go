package sites

import (
	"net"
	"time"
)

// Divert lets the function that begin returns serve the later connections of the listener
// that accepted c, instead of the server that calls Accept. It calls begin once for each
// listener. If begin returns nil, the server keeps its connections. If c does not come from a
// listener of this package, Divert does nothing.
//
// serve closes a connection, or leaves it to the server of the newest listener that accepts.
// Before it leaves a connection, serve gives back the bytes that it has read
// ([Conn.Unread]).
func Divert(c net.Conn, begin func() (serve func(c *Conn) (leave bool))) {
	own, ok := c.(*Conn)
	if !ok || own.listener == nil {
		return
	}
	l := own.listener
	l.diverted.Do(func() {
		if serve := begin(); serve != nil {
			l.serve.Store(&serve)
		}
	})
}

// divert serves a connection, if the listener is diverted.
func (l *listener) divert(c *net.TCPConn, from *socket) bool {
	serve := l.serve.Load()
	if serve == nil {
		return false
	}
	kept.run(func() {
		own := l.conn(c, from)
		own.diverted.Store(true)
		if (*serve)(own) && !from.stream.leave(own, from) {
			own.Close()
		}
	})
	return true
}

// workers run functions on goroutines that are reused, because the stack of a new goroutine
// would have to grow several times for a request.
type workers chan func()

var kept = make(workers)

// keptFor is the time that a goroutine waits for the next function.
const keptFor = 5 * time.Second

func (w workers) run(f func()) {
	select {
	case w <- f:
	default:
		go w.work(f)
	}
}

func (w workers) work(f func()) {
	timer := time.NewTimer(keptFor)
	defer timer.Stop()
	for {
		f()
		timer.Reset(keptFor)
		select {
		case f = <-w:
		case <-timer.C:
			return
		}
	}
}
