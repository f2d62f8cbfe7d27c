package sites

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dontWait lets a read fail with EAGAIN instead of waiting.
const dontWait = unix.MSG_DONTWAIT

// poller waits for a datagram on any of several sockets. It is an epoll descriptor, for
// which Go's runtime waits as for a socket. In contrast to a goroutine for each socket, this
// needs no copies of the datagrams and wakes nobody twice.
type poller struct {
	*os.File
	raw syscall.RawConn
}

func newPoller(sockets []*udpSocket) (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epoll, true); err != nil { // otherwise [os.NewFile] does not let the runtime wait for it
		unix.Close(epoll)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{File: os.NewFile(uintptr(epoll), "epoll")}
	p.raw, err = p.SyscallConn()
	for _, s := range sockets {
		err = errors.Join(err, control(s, func(fd int) error {
			return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}))
		}))
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// wait calls read again and again, each time after new datagrams have come, until read is
// done. The poller's deadline and its Close end the wait.
func (p *poller) wait(read func() (done bool)) error {
	err := p.raw.Read(func(uintptr) bool { return read() })
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return net.ErrClosed // package os has no exported error for this
	}
	return err
}
