package fastproxy

import "syscall"

// peeker looks into a connection without waiting.
type peeker struct {
	read func(fd uintptr) bool // made once
	err  error
	buf  [1]byte
}

// quiet tells whether an idle connection is open and nothing has come by it: what
// comes unasked for, such as a server's timeout, must not become the answer to the
// next request.
func (c *conn) quiet() bool {
	p := &c.peeker
	if p.read == nil {
		p.read = func(fd uintptr) bool {
			_, p.err = syscall.Read(int(fd), p.buf[:])
			return true
		}
	}
	return c.raw.Read(p.read) == nil && p.err == syscall.EAGAIN
}
