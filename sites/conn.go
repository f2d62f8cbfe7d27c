package sites

import (
	"io"
	"net"
	"reflect"
	"sync/atomic"
)

// Conn is a connection to a segment with its client's ends. All else is the TCP connection's,
// so that sendfile and splice go on working.
type Conn struct {
	*net.TCPConn
	client   net.Addr
	dialed   net.Addr
	listener *listener // that accepted it
	unread   []byte    // what has been given back

	reads atomic.Uint32 // that have returned something
	http2 atomic.Bool   // a request has come by HTTP/2
}

// RemoteAddr is the real client's address, not the alias.
func (c *Conn) RemoteAddr() net.Addr { return c.client }

// LocalAddr is the address that the client dialed, as it is on a server without
// segments: certificates are chosen by it. Who connects from this host dials the
// segment's own.
func (c *Conn) LocalAddr() net.Addr { return c.dialed }

// connOf is the connection of this package that another one is made of, by TLS or by
// a listener wrapper; nil if there is none.
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

// embedded is the connection that another one embeds, as those of listener wrappers do;
// nil if it embeds none.
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

// Unread gives back what has been read, to be read next. It must not be changed any
// more.
func (c *Conn) Unread(p []byte) { c.unread = p }

// Read reads what has been given back, then the connection.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		n, err := c.TCPConn.Read(p)
		if n > 0 {
			c.reads.Add(1)
		}
		return n, err
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	c.reads.Add(1)
	return n, nil
}

// WriteTo writes what Read would read.
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

// ReadFrom sends what a file or another connection holds by way of the kernel
// alone, also if more than one limit is put on it: Caddy sends a body piece by
// piece, each with a deadline of its own against a client that does not read, and
// package net looks behind a single limit only.
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

// sourceOf is what a reader is that can be sent on by way of the kernel; nil if it is none.
func sourceOf(r io.Reader) *Source {
	switch r := r.(type) {
	case *Source:
		return r
	case *net.TCPConn:
		return &Source{Conn: r, Sent: func() {}}
	}
	return nil
}
