package main

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// The clients and servers of the round trips use system calls that block, because otherwise
// Go's poller would be measured too.

// socketBuffer is the size in bytes of sockets' buffers. It holds bursts.
const socketBuffer = 16 << 20

// patience is the longest time to wait for an answer.
const patience = 2 * time.Second

// openSocket opens a socket on a host, for the family of an address.
func openSocket(h *netlab.Host, of netip.Addr, kind, protocol int) (fd int, err error) {
	family := unix.AF_INET
	if of.Is6() {
		family = unix.AF_INET6
	}
	err = h.Do(func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		return err
	})
	return fd, err
}

// bindSocket opens a socket on a host, and binds it.
func bindSocket(h *netlab.Host, to netip.AddrPort, kind int) (fd int, err error) {
	if fd, err = openSocket(h, to.Addr(), kind, 0); err != nil {
		return fd, err
	}
	if err = unix.Bind(fd, sockaddr(to)); err != nil {
		err = errors.Join(err, unix.Close(fd))
	}
	return fd, err
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// connect connects a socket, and bounds by patience how long it waits for data.
func connect(fd int, to netip.AddrPort) error {
	timeout := unix.NsecToTimeval(int64(patience))
	return errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout), // bounds connect(2) too
		again(func() error { return unix.Connect(fd, sockaddr(to)) }),
	)
}

// again repeats a system call until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func readSocket(fd int, p []byte) (n int, err error) {
	err = again(func() (err error) {
		n, err = unix.Read(fd, p)
		return err
	})
	return n, err
}

func writeSocket(fd int, p []byte) error {
	return again(func() error {
		_, err := unix.Write(fd, p)
		return err
	})
}
