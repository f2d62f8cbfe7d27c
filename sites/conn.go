package sites

import (
	"io"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a connection to a segment that shows the client's ends. It embeds the TCP
// connection, so that sendfile and splice still work.
type Conn struct {
	*net.TCPConn
	client   net.Addr
	dialed   net.Addr
	listener *listener   // that accepted it
	unread   []byte      // bytes that were given back
	http2    atomic.Bool // a request has come by HTTP/2
	begun    atomic.Bool // a request has been given to the handler
	pending  atomic.Bool // not diverted, and its server waits for a request or has begun to read it
	diverted atomic.Bool // what [Divert] was given serves the connection

	mu          sync.Mutex
	reads       int       // reads that have returned bytes
	lastRead    time.Time // the last read of a pending connection; at first, when it was accepted
	interrupted bool      // the read deadline is longAgo
}

// RemoteAddr returns the real client's address, not the alias.
func (c *Conn) RemoteAddr() net.Addr { return c.client }

// LocalAddr returns the address that the client dialed, as on a server without segments.
// Servers choose certificates by it. A client on this host dials the segment's own address.
func (c *Conn) LocalAddr() net.Addr { return c.dialed }

// connOf finds the connection of this package inside a connection that TLS or a listener
// wrapper has made; nil if there is none.
func connOf(c net.Conn) *Conn {
	for c != nil {
		switch under := c.(type) {
		case *Conn:
			return under
		case interface{ NetConn() net.Conn }: // *tls.Conn
			c = under.NetConn()
		case interface{ Raw() net.Conn }: // of the PROXY protocol
			c = under.Raw()
		default:
			c = embedded(c)
		}
	}
	return nil
}

// embedded returns the connection that another one embeds, as connections of listener
// wrappers do; nil if there is none.
func embedded(c net.Conn) net.Conn {
	v := reflect.Indirect(reflect.ValueOf(c))
	if v.Kind() != reflect.Struct {
		return nil
	}
	field := v.FieldByName("Conn")
	if !field.IsValid() || !field.CanInterface() {
		return nil
	}
	inner, _ := field.Interface().(net.Conn)
	return inner
}

// Unread gives back bytes that have been read, so that another server can read them. The
// next read returns them. The caller must not change p afterwards.
func (c *Conn) Unread(p []byte) {
	c.unread = p
	c.diverted.Store(false)
}

// moved returns the connection for the listener whose server serves it from now on.
func (c *Conn) moved(to *listener) *Conn {
	c.begun.Store(false)
	if c.listener == to {
		return c
	}
	c.listener.sockets.idle.remove(c)
	return &Conn{TCPConn: c.TCPConn, client: c.client, dialed: c.dialed, listener: to, unread: c.unread}
}

// Read reads the bytes that were given back, then the connection.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		n, err := c.TCPConn.Read(p)
		if n > 0 {
			c.countRead()
		}
		return n, err
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	c.countRead()
	return n, nil
}

// countRead records a read, and undoes an interruption that came too late.
func (c *Conn) countRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if c.pending.Load() {
		c.lastRead = time.Now()
	}
	if c.interrupted {
		c.interrupted = false
		_ = c.SetReadDeadline(time.Time{}) // if the connection is dead, its server finds out by reading
	}
}

// readsSoFar returns how many reads have returned bytes.
func (c *Conn) readsSoFar() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads
}

// interrupt lets the server's read fail, so that the server closes the connection, unless a
// read has returned bytes since there were so many reads. In contrast to Close, it never
// drops bytes that the server has read.
//
// A deadline that the server sets at the same moment can undo the interruption, so the
// caller repeats it while the connection is open. interrupt tells whether it has been done.
func (c *Conn) interrupt(reads int) (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reads != reads {
		return false
	}
	c.interrupted = true
	_ = c.SetReadDeadline(longAgo) // if the connection is dead, its server finds out by reading
	return true
}

// interruptIfSilent interrupts the connection if no read has returned bytes for a while.
func (c *Conn) interruptIfSilent(since time.Time) {
	c.mu.Lock()
	reads, silent := c.reads, c.lastRead.Before(since)
	c.mu.Unlock()
	if silent {
		c.interrupt(reads)
	}
}

var longAgo = time.Unix(1, 0)

// WriteTo writes the bytes that Read would return.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if len(c.unread) == 0 {
		return c.TCPConn.WriteTo(w)
	}
	n, err := w.Write(c.unread)
	c.unread = c.unread[n:]
	if err != nil {
		return int64(n), err
	}
	more, err := c.TCPConn.WriteTo(w)
	return int64(n) + more, err
}

// ReadFrom sends the content of a file or another connection inside the kernel, even behind
// two limits. Caddy sends a body piece by piece, so that each piece has a deadline against a
// client that does not read. That puts a second limit on the reader, and package net looks
// behind a single limit only.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	outer, ok := r.(*io.LimitedReader)
	if !ok {
		return c.TCPConn.ReadFrom(r)
	}
	if source := sourceOf(outer.R); source != nil {
		n, err := c.sendFrom(source, outer.N)
		outer.N -= n
		return n, err
	}
	inner, ok := outer.R.(*io.LimitedReader)
	if !ok {
		return c.TCPConn.ReadFrom(r)
	}
	n, err := c.ReadFrom(&io.LimitedReader{R: inner.R, N: min(outer.N, inner.N)})
	outer.N -= n
	inner.N -= n
	return n, err
}

// sourceOf returns a reader as a source that the kernel can send; nil if the kernel cannot.
func sourceOf(r io.Reader) *Source {
	switch r := r.(type) {
	case *Source:
		return r
	case *net.TCPConn:
		return &Source{Conn: r, Sent: func() {}}
	}
	return nil
}
