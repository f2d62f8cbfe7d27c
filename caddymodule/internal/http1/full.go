package http1

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// full is net/http's server for connections with a response that is not plain. It reads the
// request again, while the handler of the request is already running. Later requests of the
// connection belong to it.
type full struct {
	server *http.Server
	plain  *server  // the server whose connections it takes over
	taking sync.Map // the responses that it takes over, by connection

	conns     chan net.Conn
	closed    chan struct{}
	closeOnce sync.Once
}

func newFull(plain *server) *full {
	f := &full{plain: plain, conns: make(chan net.Conn), closed: make(chan struct{})}
	f.server = &http.Server{
		Handler:           f,
		ReadHeaderTimeout: plain.standard.ReadHeaderTimeout,
		IdleTimeout:       plain.standard.IdleTimeout,
		MaxHeaderBytes:    plain.standard.MaxHeaderBytes,
		ErrorLog:          plain.standard.ErrorLog,
		ConnState:         plain.standard.ConnState,
		ConnContext:       f.connContext,
		Protocols:         new(http.Protocols),
	}
	f.server.Protocols.SetHTTP1(true)
	go func() { _ = f.server.Serve(f) }() // ends when it is shut down
	return f
}

// takenOver is a response that net/http has taken over.
type takenOver struct {
	w      http.ResponseWriter
	cancel context.CancelFunc // of the request
	begun  bool
	ready  chan http.ResponseWriter
	ended  chan bool // whether the handler came to its end
}

type takenOverKey struct{}

// take gives a connection to net/http. It gives back the head of the request, and the bytes
// that have come after it.
func (f *full) take(c *conn, head int, cancel context.CancelFunc) *takenOver {
	t := &takenOver{cancel: cancel, ready: make(chan http.ResponseWriter), ended: make(chan bool, 1)}
	f.taking.Store(c.rw, t)
	ahead := c.watch.end(c)
	_ = c.rw.SetReadDeadline(time.Time{}) // if the connection is dead, net/http finds out
	c.rw.Unread(append(slices.Clone(c.in[:head]), ahead...))
	f.conns <- c.rw
	t.w = <-t.ready
	return t
}

func (f *full) connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = f.plain.connContext(ctx, c)
	if t, ok := f.taking.LoadAndDelete(c); ok {
		ctx = context.WithValue(ctx, takenOverKey{}, t)
	}
	return ctx
}

// ServeHTTP gives the writer of a response that is taken over to the running handler, and
// waits until the handler has ended.
func (f *full) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := r.Context().Value(takenOverKey{}).(*takenOver)
	if t.begun {
		f.plain.standard.Handler.ServeHTTP(w, r)
		return
	}
	t.begun = true
	defer context.AfterFunc(r.Context(), t.cancel)()
	t.ready <- w
	if !<-t.ended {
		panic(http.ErrAbortHandler)
	}
}

// sync gives net/http the header that the handler has set.
func (t *takenOver) sync(header http.Header) {
	to := t.w.Header()
	maps.DeleteFunc(to, func(name string, _ []string) bool { _, ok := header[name]; return !ok })
	maps.Copy(to, header)
}

// end ends the response.
func (t *takenOver) end(header http.Header, done bool) {
	t.sync(header)
	t.ended <- done
}

// full is the listener of its server.
var _ net.Listener = (*full)(nil)

// Accept waits for a connection that is taken over.
func (f *full) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (f *full) Close() error {
	f.closeOnce.Do(func() { close(f.closed) })
	return nil
}

// Addr returns an address that nobody uses.
func (f *full) Addr() net.Addr { return &net.TCPAddr{} }
