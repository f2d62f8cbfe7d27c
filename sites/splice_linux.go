package sites

import (
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// pipe is what splice needs between two connections.
type pipe struct {
	r, w  int
	size  int // of what it holds, in bytes
	limit int // how many bytes fill moves at most
	held  int // how many bytes are in it, which drain moves

	fill, drain func(fd uintptr) bool // from one connection, to the other; made once
	moved       int                   // bytes by the last of these calls
	err         error                 // of that call
}

// wantedSize is what Linux lets everybody have. leastSize is a pipe's by default; with less,
// splicing costs more than copying.
const (
	wantedSize = 1 << 20
	leastSize  = 64 << 10
)

// errSmallPipe says that the user's pipes have grown too many: beyond 64 MiB of them an
// ordinary user is given two pages for a new one (fs.pipe-user-pages-soft).
var errSmallPipe = errors.New("a new pipe is too small")

// pipes are empty.
var pipes sync.Pool

func takePipe() (*pipe, error) {
	if p, ok := pipes.Get().(*pipe); ok {
		return p, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	p := &pipe{r: fds[0], w: fds[1]}
	if p.size = p.grow(); p.size < leastSize {
		p.close()
		return nil, errSmallPipe
	}
	p.fill = func(from uintptr) bool { return p.move(int(from), p.w, p.limit) }
	p.drain = func(to uintptr) bool { return p.move(p.r, int(to), p.held) }
	runtime.SetFinalizer(p, (*pipe).close)
	return p, nil
}

// grow makes the pipe as large as it is allowed to be, and returns its size.
func (p *pipe) grow() int {
	size, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, wantedSize)
	if err != nil {
		size, err = unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil {
		return 0
	}
	return size
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// move moves up to n bytes, and tells whether the sockets were ready for that.
func (p *pipe) move(from, to, n int) (done bool) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_NONBLOCK)
		if err == unix.EINTR {
			continue
		}
		p.moved, p.err = int(moved), err
		return err != unix.EAGAIN
	}
}

// splice sends up to n bytes of a source; able is false where there is no pipe to do it
// with.
func (c *Conn) splice(s *Source, n int64) (sent int64, able bool, err error) {
	p, err := takePipe()
	if err != nil {
		return 0, false, nil
	}
	from, err := s.Conn.SyscallConn()
	if err != nil {
		return 0, true, err
	}
	to, err := c.SyscallConn()
	if err != nil {
		return 0, true, err
	}
	for sent < n {
		p.limit = int(min(n-sent, int64(p.size)))
		if err := p.call(from.Read, p.fill); err != nil {
			return sent, true, err
		}
		if p.moved == 0 {
			break // the end of the source
		}
		for p.held = p.moved; p.held > 0; {
			if err := p.call(to.Write, p.drain); err != nil {
				return sent, true, err // with a pipe that is not empty
			}
			p.held -= p.moved
			sent += int64(p.moved)
			s.Sent()
		}
	}
	pipes.Put(p)
	return sent, true, nil
}

// call moves bytes once a socket is ready.
func (p *pipe) call(wait func(func(uintptr) bool) error, move func(uintptr) bool) error {
	if err := wait(move); err != nil {
		return err
	}
	return os.NewSyscallError("splice", p.err)
}
