package sites

import (
	"io"
	"net"
)

// conn is a connection whose client is known. All else is the TCP connection's,
// so that sendfile and splice go on working.
type conn struct {
	*net.TCPConn
	client net.Addr
}

// RemoteAddr is the real client's address, not the alias.
func (c *conn) RemoteAddr() net.Addr { return c.client }

// ReadFrom sends what a file or another connection holds by way of the kernel
// alone, also if more than one limit is put on it: Caddy sends a body piece by
// piece, each with a deadline of its own against a client that does not read, and
// package net looks behind a single limit only.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	outer, ok := r.(*io.LimitedReader)
	if !ok {
		return c.TCPConn.ReadFrom(r)
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
