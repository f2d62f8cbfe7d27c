package leanproxy

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is a connection to an upstream. Its user owns it until the user closes or keeps it.
type conn struct {
	*net.TCPConn
	raw       syscall.RawConn
	peeker    peeker
	keptSince time.Time // zero if it has not been kept yet

	deadline time.Time   // of reading, while it is not watched
	abort    func()      // closes it; made once, for all watches
	unwatch  func() bool // nil while it is not watched
}

func newConn(c *net.TCPConn) (*conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	opened := &conn{TCPConn: c, raw: raw, abort: func() { c.Close() }}
	return opened, opened.renew(time.Now())
}

// brief is the time for which a connection is read under a deadline instead of a watch,
// because a watch costs more. Most exchanges end within half of it.
const brief = 50 * time.Millisecond

// renew sets a deadline, so that a read lasts no longer than brief.
func (c *conn) renew(now time.Time) error {
	if c.deadline.Sub(now) >= brief/2 {
		return nil
	}
	c.deadline = now.Add(brief)
	return c.SetReadDeadline(c.deadline)
}

// readBriefly reads. If nothing comes within brief, it watches the connection.
func (c *conn) readBriefly(ctx context.Context, p []byte) (n int, err error) {
	n, err = c.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if err := c.watch(ctx); err != nil {
			return 0, err
		}
		n, err = c.Read(p)
	}
	return n, err
}

// watch closes the connection when the client of its user goes away. Until then reads
// wait.
func (c *conn) watch(ctx context.Context) error {
	if c.unwatch != nil {
		return nil
	}
	c.deadline = time.Time{}
	c.unwatch = context.AfterFunc(ctx, c.abort)
	return c.SetReadDeadline(c.deadline)
}

// unwatched ends a watch. It tells whether the connection is still open.
func (c *conn) unwatched() bool {
	if c.unwatch == nil {
		return true
	}
	open := c.unwatch()
	c.unwatch = nil
	return open
}

// discard closes the connection.
func (c *conn) discard() {
	c.unwatched()
	c.Close()
}
