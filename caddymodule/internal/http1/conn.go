package http1

import (
	"context"
	"log"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// conn is a connection with the state that its requests share.
type conn struct {
	server *server
	rw     *sites.Conn
	ctx    context.Context
	remote string
	state  atomic.Int32
	watch  watch

	readDeadline, writeDeadline time.Time // zero if there is none

	*buffers
}

// States of a connection.
const (
	fresh   = iota // no request has come yet
	waiting        // for another one
	busy
	dismissed // by a server that closes
)

// buffers is the memory of a connection.
type buffers struct {
	in    [maxHead]byte
	out   []byte
	names []string
}

// maxHead is the size limit of the head of a plain request, in bytes.
const maxHead = 4096

var buffersPool = sync.Pool{New: func() any { return &buffers{out: make([]byte, 0, 2*maxHead)} }}

// end says how a request ends, or how the service of a connection ends.
type end int

const (
	goOn end = iota // with the next request
	shut            // the connection is to be closed
	left            // it is left to the server that accepts
	gone            // it is net/http's, which has taken over the response
)

// serve serves a connection, and closes it or leaves it.
func (s *server) serve(rw *sites.Conn) (leave bool) {
	c := &conn{server: s, rw: rw}
	if !s.add(c) {
		return true
	}
	defer s.remove(c)
	c.buffers = buffersPool.Get().(*buffers)
	defer buffersPool.Put(c.buffers)
	s.setState(rw, http.StateNew)
	c.remote = rw.RemoteAddr().String()
	c.ctx = context.WithValue(s.connContext(context.Background(), rw), http.LocalAddrContextKey, rw.LocalAddr())
	end := c.serve()
	if end == shut {
		rw.Close()
		s.setState(rw, http.StateClosed)
	}
	return end == left
}

func (c *conn) serve() end {
	timeout, from := c.server.standard.ReadHeaderTimeout, int32(fresh)
	for n := 0; ; {
		more, err := c.read(n, timeout)
		n += more
		if !c.state.CompareAndSwap(from, busy) {
			return c.leave(n) // to the next configuration's server
		}
		if err != nil {
			return shut
		}
		end, ahead := c.answer(n)
		if end != goOn {
			return end
		}
		n = copy(c.in[:], ahead)
		c.server.setState(c.rw, http.StateIdle)
		c.state.Store(waiting)
		if c.server.closing.Load() {
			return c.leave(n)
		}
		timeout, from = c.server.standard.IdleTimeout, waiting
	}
}

// dismiss ends a connection's wait for a request, which may be on its way. The next
// configuration's server gets the connection. If there is no such server, the connection
// closes.
func (c *conn) dismiss() {
	if c.state.CompareAndSwap(fresh, dismissed) || c.state.CompareAndSwap(waiting, dismissed) {
		_ = c.rw.SetReadDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// read reads what follows the first n bytes of a request.
func (c *conn) read(n int, timeout time.Duration) (more int, err error) {
	var deadline time.Time
	now := time.Now()
	if timeout > 0 {
		deadline = now.Add(timeout)
	}
	if !near(c.readDeadline, deadline, now) {
		c.readDeadline = deadline
		if err := c.rw.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
	}
	if c.state.Load() == dismissed {
		return 0, nil // the deadline has replaced that of dismiss
	}
	return c.rw.Read(c.in[n:])
}

// near tells whether the deadline that is set can stand for a later one. If they differ by
// less than a sixtieth of the remaining time, setting the deadline costs more than it
// gains.
func near(set, wanted, now time.Time) bool {
	if set.IsZero() || wanted.IsZero() {
		return set.Equal(wanted)
	}
	later := wanted.Sub(set)
	return later >= 0 && later < wanted.Sub(now)/60
}

// leave leaves the connection to another server, and gives back the bytes that were read.
func (c *conn) leave(n int) end {
	// The server's close sets no deadline after remove.
	c.server.remove(c)
	_ = c.rw.SetDeadline(time.Time{}) // if the connection is dead, the other server finds out
	c.rw.Unread(slices.Clone(c.in[:n]))
	return left
}

// answer answers a request. The bytes after it belong to the next one.
func (c *conn) answer(n int) (end end, ahead []byte) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	r, plain := parse(ctx, string(c.in[:n]))
	if !plain {
		return c.leave(n), nil
	}
	r.RemoteAddr = c.remote
	c.server.setState(c.rw, http.StateActive)
	w := &response{conn: c, r: r, asked: n, header: make(http.Header), close: r.Close, cancel: cancel}
	c.watch.begin(c, cancel)
	done := c.handle(w, r)
	cancel()
	again := done && w.finish()
	ahead = c.watch.end(c)
	if w.full != nil {
		w.full.end(w.header, done)
		return gone, nil
	}
	if !again {
		return shut, nil
	}
	return goOn, ahead
}

// handle calls the handler, and tells whether the handler returned.
func (c *conn) handle(w *response, r *http.Request) (done bool) {
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			c.server.logf("http: panic serving %v: %v\n%s", c.remote, v, debug.Stack())
		}
	}()
	c.server.standard.Handler.ServeHTTP(w, r)
	return true
}

func (s *server) logf(format string, values ...any) {
	if s.standard.ErrorLog != nil {
		s.standard.ErrorLog.Printf(format, values...)
		return
	}
	log.Printf(format, values...)
}
