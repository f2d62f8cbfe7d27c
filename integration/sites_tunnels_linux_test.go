package integration_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// A WebSocket through vnic_proxy outlives reloads as long as some vnic_proxy leads from the
// front to its server: in the same configuration, in others, and in both servers that a front
// has. When none does, it is closed as WebSockets are. A stream_close_delay and a
// stream_timeout of the block hold as in reverse_proxy. Caddy ends although a WebSocket is
// open.
func TestTunnelsOverReloads(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := func(b string, handlers ...string) frontCaddyfile {
			return frontCaddyfile{
				datapath: datapath, a: "ports tcp/80 tcp/9000", b: "ports " + b,
				sites: "http://www.example.com, https://www.example.com {\nbind vnic/front\ntls internal\n" + strings.Join(handlers, "\n") + "\n}\n",
			}
		}
		kept := "handle /kept {\nvnic_proxy a:9000\n}"
		delayed := "handle /delayed {\nvnic_proxy a:9000 {\nstream_close_delay 200ms\n}\n}"
		timed := "handle /timed {\nvnic_proxy a:9000 {\nstream_timeout 2s\n}\n}"
		first := config("tcp/80", kept, delayed, timed)
		s.startExample(first.String())
		s.serveWebSocket("192.168.50.1:9000", "a")

		var tunnels []*websocket.Conn
		for range 3 { // the lean server begins with the second connection
			tunnels = append(tunnels, s.openWebSocket("ws", "/kept"))
		}
		tunnels = append(tunnels, s.openWebSocket("wss", "/kept"))
		wantAll := func(when string) {
			t.Helper()
			for i, ws := range tunnels {
				if err := echoes(ws, when); err != nil {
					t.Errorf("%s, WebSocket %d: %v", when, i, err)
				}
			}
		}
		early, late := s.openWebSocket("ws", "/delayed"), s.openWebSocket("ws", "/timed")
		s.loadText(first.String())
		wantAll("after a reload of the same")
		s.wantClosed("the one with a stream_close_delay", early)
		s.loadText(config("tcp/80 tcp/81", "header X-New yes", kept).String())
		wantAll("after another configuration")
		s.wantClosed("the one with a stream_timeout", late)
		s.loadText(config("tcp/80", "handle /elsewhere {\nvnic_proxy a:9000\n}").String())
		wantAll("while another site leads there")
		if answer, err := s.postText(strings.Replace(first.String(), "nic nic0", "nic nic9", 1)); err != nil || answer == "" {
			t.Errorf("a bad configuration loads: %v", err)
		}
		wantAll("after a failed reload")
		s.loadText(config("tcp/80", kept).String())
		wantAll("after one more")

		s.loadText(config("tcp/80", "respond gone").String())
		for i, ws := range tunnels {
			s.wantClosed(fmt.Sprintf("WebSocket %d, to which no site leads", i), ws)
		}
		s.loadText(first.String())
		for range 3 {
			tunnels = append(tunnels, s.openWebSocket("ws", "/kept"))
		}
		s.stop()
		s.wantClosed("the one that was open when Caddy ended", tunnels[len(tunnels)-1])
	})
}

// loadText loads a Caddyfile by force.
func (s *scene) loadText(config string) {
	s.t.Helper()
	if answer, err := s.postText(config); err != nil || answer != "" {
		s.t.Fatalf("POST /load: %q (%v)", answer, err)
	}
}

// openWebSocket opens a WebSocket from PC1 to the front, and reads the greeting.
func (s *scene) openWebSocket(scheme, path string) *websocket.Conn {
	s.t.Helper()
	var conn net.Conn
	var err error
	if scheme == "wss" {
		conn, err = s.dialTLS()
	} else {
		conn, err = s.PC1.DialContext(s.t.Context(), "tcp4", "192.168.1.2:80")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	config, err := websocket.NewConfig(scheme+"://www.example.com"+path, "https://www.example.com")
	if err != nil {
		s.t.Fatal(err)
	}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	var greeting string
	if err := websocket.Message.Receive(ws, &greeting); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return ws
}

// echoes tells why a WebSocket does not echo.
func echoes(ws *websocket.Conn, message string) error {
	if err := websocket.Message.Send(ws, message); err != nil {
		return err
	}
	var got string
	if err := websocket.Message.Receive(ws, &got); err != nil {
		return err
	}
	if got != message {
		return fmt.Errorf("the echo of %q is %q", message, got)
	}
	return nil
}

// wantClosed waits until the server has closed a WebSocket.
func (s *scene) wantClosed(which string, ws *websocket.Conn) {
	s.t.Helper()
	if err := ws.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	var got string
	err := websocket.Message.Receive(ws, &got)
	if timeout, ok := err.(net.Error); err == nil || ok && timeout.Timeout() {
		s.t.Errorf("%s is not closed: %q (%v)", which, got, err)
	}
}
