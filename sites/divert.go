package sites

import (
	"net"
	"time"
)

// Divert has the connections of the listener that accepted c served by what begin
// returns, from the next one on, in place of the server that calls Accept. It calls
// begin once for each listener, and never if c is not from one of this package's.
//
// serve closes the connection, or leaves it to the server that accepts, which is that
// of the newest listener. It gives back ([Conn.Unread]) what it has read before.
func Divert(c net.Conn, begin func() (serve func(c *Conn) (leave bool))) {
	own, ok := c.(*Conn)
	if !ok || own.listener == nil {
		return
	}
	l := own.listener
	l.diverted.Do(func() {
		serve := begin()
		l.serve.Store(&serve)
	})
}

// divert has a connection served, if the listener is diverted.
func (l *listener) divert(c *net.TCPConn, from *socket) bool {
	serve := l.serve.Load()
	if serve == nil {
		return false
	}
	kept.run(func() {
		own := l.conn(c)
		if (*serve)(own) && !l.stream.leave(own, from) {
			own.Close()
		}
	})
	return true
}

// workers run functions on goroutines that are kept for a while: the stack of a new
// one would have to grow several times before it is large enough for a request.
type workers chan func()

var kept = make(workers)

// keptFor is how long a goroutine waits for the next function.
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
