package integration_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// What a client says in a tunnel, which it gets by an upgrade, goes to the segment
// that agreed to it, whatever it is. `header_up -Upgrade` keeps such tunnels away.
func TestGroupingUpgrade(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		g := &grouping{scene: newScene(t, paper.NetworkOptions{}), segments: map[string]*recorder{"b": {name: "b"}}}
		config := frontCaddyfile{datapath: datapath, a: "ports tcp/80", b: "ports tcp/80", sites: groups}
		g.startFront("", config)
		heard := make(chan string, 1)
		g.listen(g.Server, "192.168.50.1:80", func(conn net.Conn) { agree(conn, heard) })
		g.listen(g.Server, "192.168.60.1:80", g.segments["b"].serve)

		upgrade := get("/test1/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
		conn, status := g.ask(upgrade)
		if status != http.StatusSwitchingProtocols {
			t.Fatalf("the upgrade is answered %d", status)
		}
		through := get("/test2/")
		if _, err := io.WriteString(conn, through); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-heard:
			if got != through {
				t.Errorf("segment a hears %q in the tunnel", got)
			}
		case <-time.After(5 * time.Second):
			t.Error("segment a hears nothing in the tunnel")
		}
		config.sites = strings.ReplaceAll(config.sites, "vnic_proxy a", "vnic_proxy a {\nheader_up -Upgrade\n}")
		if err := g.caddyReload(config); err != nil {
			t.Fatal(err)
		}
		if _, status := g.ask(upgrade); status != http.StatusOK {
			t.Errorf("without its Upgrade the request is answered %d", status)
		}
		if requests, wrong := g.segments["b"].take(); len(requests)+len(wrong) > 0 {
			t.Errorf("segment b got %v and %q", requests, wrong)
		}
	})
}

// agree is a server that agrees to every upgrade, and tells what it hears then.
func agree(conn net.Conn, heard chan<- string) {
	reader := bufio.NewReader(conn)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	if request.Header.Get("Upgrade") == "" {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return
	}
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	said, _ := io.ReadAll(reader) // until the client has no more to say
	heard <- string(said)
}

// ask sends a request to the front and returns its status.
func (g *grouping) ask(request string) (net.Conn, int) {
	g.t.Helper()
	conn, err := g.dial()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		g.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return conn, resp.StatusCode
}
