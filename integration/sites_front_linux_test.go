package integration_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	caddyvnic "github.com/caddy-vnic/caddy-vnic"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// The two pages of the example's web site.
const (
	test1 = "https://www.example.com/test1/index.html"
	test2 = "https://www.example.com/test2/index.html"
)

// TestFront plays the paper's Fig-18 with real clients, over IPv4 and IPv6. Each
// request goes to its own segment, also where one connection carries requests for both.
func TestFront(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newFront(t, datapath)
		vnics := s.capture(s.Server, "vnic-A", "vnic-B")
		for option, version := range map[string]string{"--http1.1": "1.1", "--http2": "2"} {
			s.wantCurl(option, version)
		}
		s.wantHTTP3()
		s.wantEnoughOf(s.h2load(2000))
		for i, own := range []string{"/test1/index.html", "/test2/index.html"} {
			if paths := netlab.RequestPaths(s.frames(vnics), i); len(paths) != 1 || paths[0] != own {
				t.Errorf("requests on VNIC %d: %q, want %s", i, paths, own)
			}
		}
	})
}

// TestFrontWebSocket talks over WebSockets with a server of each segment that is
// not Caddy's.
func TestFrontWebSocket(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newFront(t, datapath,
			"\t\t\tinterface vnic-A", "\t\t\tports tcp/9000\n\t\t\tinterface vnic-A",
			"\t\t\tinterface vnic-B", "\t\t\tports tcp/9000\n\t\t\tinterface vnic-B",
			"vnic_proxy a", "vnic_proxy a:9000",
			"vnic_proxy b", "vnic_proxy b:9000")
		s.serveWebSocket("192.168.50.1:9000", "a")
		s.serveWebSocket("192.168.60.1:9000", "b")
		s.wantWebSocket("/test1/chat", "a for 192.168.10.2")
		s.wantWebSocket("/test2/chat", "b for 192.168.10.2")
	})
}

// newFront starts the server with Caddyfile.example, in which edits, pairs of an
// old and a new text, are made.
func newFront(t *testing.T, datapath string, edits ...string) *scene {
	t.Helper()
	s := newScene(t, paper.NetworkOptions{Neighbours: 1, IPv6: true})
	s.startExample(exampleWith(t, datapath, edits...))
	return s
}

// exampleWith is Caddyfile.example for a data path, and edited. The grace period
// is because Go's HTTP server waits 5 s, when it stops, for connections that have
// carried no request yet, and the front's transport may have opened such ones.
func exampleWith(t *testing.T, datapath string, edits ...string) string {
	t.Helper()
	config := caddyvnic.CaddyfileExample
	edits = append(edits, "\tvnic {", "\tgrace_period 1s\n\tvnic {\n\t\tdatapath "+datapath)
	for i := 0; i < len(edits); i += 2 {
		if n := strings.Count(config, edits[i]); n != 1 {
			t.Fatalf("Caddyfile.example has %q %d times, want once", edits[i], n)
		}
		config = strings.Replace(config, edits[i], edits[i+1], 1)
	}
	return config
}

// startExample starts Caddy with the example and a page for each segment, and
// waits until the front has its certificate.
func (s *scene) startExample(config string) {
	s.t.Helper()
	s.env = append(s.env, "VNIC_NIC="+paper.NICDevice, "VNIC_ISSUER=internal")
	for segment, page := range map[string]string{"A": "test1/index.html", "B": "test2/index.html"} {
		root := filepath.Join(s.dir, segment)
		s.env = append(s.env, "VNIC_ROOT_"+segment+"="+root)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, page)), 0o755); err != nil {
			s.t.Fatal(err)
		}
		s.write(filepath.Join(segment, page), strings.ToLower(segment))
	}
	if err := s.tryStart(config); err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("the front's certificate", func() bool {
		conn, err := s.dialTLS()
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// dialTLS connects PC1 to the front.
func (s *scene) dialTLS() (*tls.Conn, error) {
	roots, err := s.caddy.Roots()
	if err != nil {
		return nil, err
	}
	conn, err := s.PC1.DialContext(s.t.Context(), "tcp4", "192.168.1.2:443")
	if err != nil {
		return nil, err
	}
	client := tls.Client(conn, &tls.Config{ServerName: "www.example.com", RootCAs: roots})
	if err := client.HandshakeContext(s.t.Context()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return client, nil
}

// wantCurl has curl read both pages by turns, over each family on one connection.
func (s *scene) wantCurl(option, version string) {
	s.t.Helper()
	for _, c := range clientsOfBoth {
		got := s.run(s.PC1, "curl", "-sS", "--max-time", "10", option, "--cacert", s.caddy.RootCertificate(),
			"--connect-to", "::"+netlab.URLHost(c.dialed)+":", "-w", ` %{http_version} %{num_connects}\n`, test1, test2, test1, test2)
		want := strings.ReplaceAll("a V 1\nb V 0\na V 0\nb V 0\n", "V", version)
		if got != want {
			s.t.Errorf("curl %s to %s: page, version and new connections:\n%swant\n%s", option, c.dialed, got, want)
		}
	}
}

// wantHTTP3 does the same over HTTP/3.
func (s *scene) wantHTTP3() {
	s.t.Helper()
	roots, err := s.caddy.Roots()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range clientsOfBoth {
		client, err := s.PC1.WebClient(netlab.WebOptions{Protocol: netlab.HTTP3, Address: c.dialed, Roots: roots})
		if err != nil {
			s.t.Fatal(err)
		}
		var got string
		for _, url := range []string{test1, test2, test1, test2} {
			page, err := fetch(&client.Client, url)
			if err != nil {
				s.t.Errorf("HTTP/3 to %s: %v", c.dialed, err)
			}
			got += page
		}
		if got != "abab" || client.Connections() != 1 {
			s.t.Errorf("HTTP/3 to %s: pages %s on %d connections, want abab on one", c.dialed, got, client.Connections())
		}
		if err := client.Close(); err != nil {
			s.t.Error(err)
		}
	}
}

// h2load sends requests for both pages in equal numbers, over each family 32 at a time on
// each of four HTTP/2 connections.
func (s *scene) h2load(requests int) (each int) {
	s.t.Helper()
	for _, c := range clientsOfBoth {
		report := s.run(s.PC1, "h2load", "-n", fmt.Sprint(requests), "-c", "4", "-m", "32", "--connect-to="+netlab.URLHost(c.dialed)+":443", test1, test2)
		for _, want := range []string{
			"Application protocol: h2\n",
			fmt.Sprintf("%d succeeded, 0 failed, 0 errored, 0 timeout", requests),
			fmt.Sprintf("status codes: %d 2xx", requests),
		} {
			if !strings.Contains(report, want) {
				s.t.Errorf("h2load to %s does not say %q:\n%s", c.dialed, want, report)
			}
		}
	}
	return requests / 2
}

// wantEnoughOf waits until each site has logged that many requests of PC1 by each of its
// addresses over what came before, and checks that no other client is in the log.
func (s *scene) wantEnoughOf(each int) {
	s.t.Helper()
	type kind struct{ client, uri string }
	want := make(map[kind]bool)
	for _, c := range clientsOfBoth {
		for _, uri := range []string{"/test1/index.html", "/test2/index.html"} {
			want[kind{c.client.String(), uri}] = true
		}
	}
	count := make(map[kind]int)
	s.waitFor("the access logs", func() bool {
		accesses, err := s.caddy.Accesses()
		if err != nil {
			s.t.Fatal(err)
		}
		clear(count)
		for _, a := range accesses {
			k := kind{a.Request.ClientIP, a.Request.URI}
			if !want[k] {
				s.t.Fatalf("the site sees %s as client of %s", k.client, k.uri)
			}
			count[k]++
		}
		for k := range want {
			if count[k] < each {
				return false
			}
		}
		return true
	})
}

// serveWebSocket serves on the server: it greets, then echoes.
func (s *scene) serveWebSocket(address, name string) {
	s.t.Helper()
	s.serveHTTP(s.Server, address, websocket.Handler(func(conn *websocket.Conn) {
		fmt.Fprintf(conn, "%s for %s", name, conn.Request().Header.Get("X-Forwarded-For"))
		var message string
		for websocket.Message.Receive(conn, &message) == nil {
			websocket.Message.Send(conn, message)
		}
	}))
}

// wantWebSocket opens a WebSocket from PC1 and talks over it.
func (s *scene) wantWebSocket(path, greeting string) {
	s.t.Helper()
	conn, err := s.dialTLS()
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	config, err := websocket.NewConfig("wss://www.example.com"+path, "https://www.example.com")
	if err != nil {
		s.t.Fatal(err)
	}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	want := []string{greeting, "one", strings.Repeat("two", 10000)}
	for i, message := range want {
		if i > 0 {
			if err := websocket.Message.Send(ws, message); err != nil {
				s.t.Fatal(err)
			}
		}
		var got string
		if err := websocket.Message.Receive(ws, &got); err != nil || got != message {
			s.t.Errorf("%s: message %d is %.60q (%v), want %.60q", path, i, got, err, message)
		}
	}
}
