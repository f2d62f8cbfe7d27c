package main

import (
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// serveEcho answers on the echo port until this process ends. The first byte of a message
// is the [core] on which the server must answer it.
func serveEcho(h *netlab.Host, on netip.Addr) error {
	datagrams, err := bindSocket(h, netip.AddrPortFrom(on, echoPort), unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	go echoDatagrams(datagrams)
	fd, err := bindSocket(h, netip.AddrPortFrom(on, echoPort), unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	if err := unix.Listen(fd, 128); err != nil {
		return err
	}
	go func() {
		for {
			conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err == nil {
				go echoStream(conn)
			} else if err != unix.EINTR && err != unix.ECONNABORTED {
				return
			}
		}
	}()
	return nil
}

func echoDatagrams(fd int) {
	at := lockThread()
	buffer := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		switch {
		case err == nil && n > 0:
			at.move(buffer[0])
			_ = unix.Sendto(fd, buffer[:n], 0, from) // an error means that the client has gone
		case err != nil && err != unix.EINTR:
			return
		}
	}
}

func echoStream(fd int) {
	defer unix.Close(fd)
	at := lockThread()
	buffer := make([]byte, 2048)
	for {
		n, err := readSocket(fd, buffer)
		if err != nil || n == 0 {
			return
		}
		at.move(buffer[0])
		if writeSocket(fd, buffer[:n]) != nil {
			return
		}
	}
}

// lockedThread is the thread to which a goroutine is locked. It ends with the goroutine.
type lockedThread struct{ at core }

func lockThread() *lockedThread {
	runtime.LockOSThread()
	return new(lockedThread)
}

// move makes the thread run on a core, which exists: the client runs on the same machine.
func (t *lockedThread) move(to byte) {
	if c := core(to); c != t.at && moveTo(c) == nil {
		t.at = c
	}
}
