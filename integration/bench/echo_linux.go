package main

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// serveEcho answers on the echo ports until this process ends.
func serveEcho(h *integration.Host, on netip.Addr) error {
	for _, port := range []uint16{echoPort, flowsPort} {
		fd, err := openSocket(h, unix.SOCK_DGRAM, 0, netip.AddrPortFrom(on, port))
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer); err != nil {
			return err
		}
		go echoDatagrams(fd)
	}
	fd, err := openSocket(h, unix.SOCK_STREAM, 0, netip.AddrPortFrom(on, echoPort))
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
	buffer := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		switch err {
		case nil:
			_ = unix.Sendto(fd, buffer[:n], 0, from) // a client that has gone needs no answer
		case unix.EINTR:
		default:
			return
		}
	}
}

func echoStream(fd int) {
	defer unix.Close(fd)
	buffer := make([]byte, 2048)
	for {
		n, err := readSocket(fd, buffer)
		if err != nil || n == 0 || writeSocket(fd, buffer[:n]) != nil {
			return
		}
	}
}
