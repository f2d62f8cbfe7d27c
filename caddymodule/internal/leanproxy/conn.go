package leanproxy

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is a connection to an upstream. Its user owns it until it is closed or kept.
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

// brief is how long a connection is read without a watch, which costs more than a
// deadline, let alone one that is renewed now and then. Most exchanges are over by
// half of that.
const brief = 50 * time.Millisecond

// renew sees that a read will last no longer than is brief.
func (c *conn) renew(now time.Time) error {
	if c.deadline.Sub(now) >= brief/2 {
		return nil
	}
	c.deadline = now.Add(brief)
	return c.SetReadDeadline(c.deadline)
}

// readBriefly reads, and watches the connection if nothing comes for a while.
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

// watch closes the connection when its user's client goes away; until then, reads
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
