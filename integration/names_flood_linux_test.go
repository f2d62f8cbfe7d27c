package integration_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows N3 and N8: a flood of SYNs from random addresses, and connections that send half of a hello
// and then nothing, do not keep a client from the site that it names.
func TestFloodsByName(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		s.startByName(datapath)
		roots, err := s.caddy.Roots()
		if err != nil {
			t.Fatal(err)
		}
		ask := func() {
			client, err := s.PC1.WebClient(netlab.WebOptions{Protocol: netlab.HTTP1, Address: paper.PseudoAddr, Roots: roots})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			got, err := fetch(&client.Client, "https://a.example.com/")
			if want := "a " + paper.PC1Addr.String() + " HTTP/1.1"; err != nil || got != want {
				t.Fatalf("got %q (%v), want %q", got, err, want)
			}
		}
		t.Run("SYNs", func(t *testing.T) {
			defer s.in(t)()
			s.beside([]string{"-S", "-p", "443", "-c", "20000"}, ask)
		})
		t.Run("half hellos", func(t *testing.T) {
			defer s.in(t)()
			defer s.sendHalfHellos(s.Neighbours[0], "192.168.1.2:443", 2000)()
			for range 20 {
				ask()
			}
		})
	})
}

// sendHalfHellos opens connections from a host, and sends half of a TLS hello by each.
func (s *scene) sendHalfHellos(h *netlab.Host, address string, n int) (stop func()) {
	s.t.Helper()
	half := halfHello(s.t)
	conns := make([]net.Conn, n)
	var dialers sync.WaitGroup
	for first := range 16 {
		dialers.Go(func() {
			for i := first; i < n; i += 16 {
				conn, err := h.DialContext(s.t.Context(), "tcp4", address)
				if err != nil {
					continue
				}
				if _, err := conn.Write(half); err != nil {
					s.t.Error(err)
				}
				conns[i] = conn
			}
		})
	}
	dialers.Wait()
	return func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}
}

// halfHello returns the first half of the ClientHello of Go's client.
func halfHello(t *testing.T) []byte {
	t.Helper()
	client, server := net.Pipe()
	go tls.Client(client, &tls.Config{ServerName: "a.example.com"}).Handshake()
	defer client.Close()
	server.SetReadDeadline(time.Now().Add(time.Second))
	var hello bytes.Buffer
	if _, err := io.CopyN(&hello, server, 1000); err != nil {
		t.Fatal(err)
	}
	return hello.Bytes()
}
