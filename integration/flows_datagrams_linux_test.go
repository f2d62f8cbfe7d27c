package integration_test

import (
	"net"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F10+: a client that sends all its datagrams from one port leaves a segment whose
// server has ended: Linux says there that the port is closed. It leaves one that is
// drained when it is asked for.
func TestDatagramsFindAServer(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "ports any", b: "ports any", policy: "lb_policy round_robin a b", sites: "# none"})
		client := s.oneSocket("192.168.1.2:5000")
		for range 3 {
			for _, server := range []struct{ name, address string }{{"a", "192.168.50.1:5000"}, {"b", "192.168.60.1:5000"}} {
				conn := s.packetConn(s.Server, server.address)
				go answer(conn, server.name)
				client.wantFrom(server.name)
				conn.Close()
			}
		}
		s.answerUDP("192.168.50.1:5000", "a")
		s.answerUDP("192.168.60.1:5000", "b")
		first, other := client.server(), "b"
		if first == "b" {
			other = "a"
		}
		s.vnic("drain", first)
		if got := client.server(); got != first {
			t.Errorf("a drain alone takes the flow from %s to %q", first, got)
		}
		s.vnic("drain", first, "--flows")
		if got := client.server(); got != other {
			t.Errorf("drained with its flows, %s leaves the flow to %q", first, got)
		}
	})
}

// oneSocket is a client with one port.
type oneSocket struct {
	s    *scene
	conn net.Conn
}

func (s *scene) oneSocket(address string) *oneSocket {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), "udp4", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return &oneSocket{s, conn}
}

// server is who answers, or "".
func (c *oneSocket) server() string {
	c.s.t.Helper()
	if err := c.conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		c.s.t.Fatal(err)
	}
	_, _ = c.conn.Write([]byte("who?"))
	name := make([]byte, 16)
	n, _ := c.conn.Read(name)
	return string(name[:n])
}

func (c *oneSocket) wantFrom(server string) {
	c.s.t.Helper()
	c.s.waitFor("an answer of "+server, func() bool { return c.server() == server })
}
