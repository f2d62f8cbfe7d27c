package leanproxy

import "syscall"

// peeker reads from a connection without waiting.
type peeker struct {
	read func(fd uintptr) bool // made once
	p    []byte
	n    int
	err  error
	buf  [1]byte
}

// readNow reads what has already come. If nothing has come, it returns an error. At the end
// of the stream it returns neither bytes nor an error.
func (c *conn) readNow(p []byte) (n int, err error) {
	peek := &c.peeker
	if peek.read == nil {
		peek.read = func(fd uintptr) bool {
			peek.n, peek.err = syscall.Read(int(fd), peek.p)
			return true
		}
	}
	peek.p = p
	if err := c.raw.Read(peek.read); err != nil {
		return 0, err
	}
	peek.p = nil
	return max(peek.n, 0), peek.err
}

// quiet tells whether an idle connection is open and nothing has come on it. What comes
// without a request, such as a server's 408, must not become the answer to the next
// request.
func (c *conn) quiet() bool {
	_, err := c.readNow(c.peeker.buf[:])
	return err == syscall.EAGAIN
}
