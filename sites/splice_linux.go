package sites

import (
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// pipe is the pipe that splice needs between two connections.
type pipe struct {
	r, w  int
	size  int // how many bytes fit in
	limit int // the most bytes that fill moves
	held  int // how many bytes are in it, which drain moves

	fill, drain func(fd uintptr) bool // from one connection, to the other; made once
	moved       int                   // bytes by the last of these calls
	err         error                 // of that call
}

// wantedSize is the largest pipe that Linux gives to every user, in bytes. leastSize is the
// default size of a pipe; with less, splicing costs more than copying.
const (
	wantedSize = 1 << 20
	leastSize  = 64 << 10
)

// errSmallPipe says that the user has too many pipes: beyond 64 MiB of them, Linux gives an
// ordinary user two pages for a new pipe (fs.pipe-user-pages-soft).
var errSmallPipe = errors.New("a new pipe is too small")

// pipes holds empty pipes.
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

// grow makes the pipe as large as Linux allows, and returns its size in bytes.
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

// splice sends up to n bytes of a source. If there is no pipe for that, able is false.
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
				return sent, true, err // the pipe is not empty, so it is not reused
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
