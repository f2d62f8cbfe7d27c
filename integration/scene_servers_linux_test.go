package integration_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// networkOf is a network for package net, of the family that an address of it has: IPv6 only if it
// says so, because a socket of IPv6 for all addresses would serve IPv4, too.
func networkOf(transport, address string) string {
	if strings.HasPrefix(address, "[") {
		return transport + "6"
	}
	return transport + "4"
}

// listener listens on a host for TCP.
func (s *scene) listener(h *netlab.Host, address string) (listener net.Listener) {
	s.t.Helper()
	err := h.Do(func() error {
		return bind(func() (err error) {
			listener, err = net.Listen(networkOf("tcp", address), address)
			return err
		})
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return listener
}

// listen listens on a host for TCP and gives each connection to serve.
func (s *scene) listen(h *netlab.Host, address string, serve func(net.Conn)) {
	s.t.Helper()
	listener := s.listener(h, address)
	s.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
}

// serveHTTP serves HTTP on a host until the test ends.
func (s *scene) serveHTTP(h *netlab.Host, address string, handler http.Handler) {
	s.t.Helper()
	server := &http.Server{Handler: handler}
	go server.Serve(s.listener(h, address))
	s.t.Cleanup(func() { server.Close() })
}

// say is a server for listen that says one thing to every client.
func say(what string) func(net.Conn) {
	return func(conn net.Conn) { io.WriteString(conn, what) }
}

// packetConn opens a UDP socket on a host until the test ends.
func (s *scene) packetConn(h *netlab.Host, address string) net.PacketConn {
	s.t.Helper()
	var conn net.PacketConn
	err := h.Do(func() error {
		return bind(func() (err error) {
			conn, err = net.ListenPacket(networkOf("udp", address), address)
			return err
		})
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// bind calls a function that binds a socket, for some seconds while the address is in use: a program
// that another test is just starting has this process's sockets until it runs, also those that were
// closed meanwhile.
func bind(try func() error) (err error) {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = try(); !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// echoUDP sends every datagram back to where it came from.
func (s *scene) echoUDP(h *netlab.Host, address string) {
	s.t.Helper()
	conn := s.packetConn(h, address)
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			conn.WriteTo(buffer[:n], from)
		}
	}()
}

// hear connects to a server that says something at once, and returns that. A
// server that is not there is waited for as long as patience lasts.
func hear(h *netlab.Host, address string, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := h.DialContext(ctx, networkOf("tcp", address), address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	return string(said), err
}
