package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// A drain ends although clients keep their connections, over HTTP/1 and HTTP/2, idle or
// busy. The clients come to the other segment, no request fails, and downloads end whole.
// Until then the command and the status say whose flows are left. After `activate` Caddy
// keeps connections again.
func TestDrainEnds(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := caddyfile{datapath: datapath, policy: "lb_policy first a b", global: "skip_install_trust"}
		for _, name := range []string{"a", "b"} {
			s.write(name, name)
			config.sites += fmt.Sprintf(`
http://192.168.1.2, https://192.168.1.2 {
	bind vnic/%s
	tls internal
	root * %s
	rewrite /page /%[1]s
	file_server
}
`, name, s.dir)
		}
		s.write("data", strings.Repeat("x", 8*mib))
		s.start(config)
		var clients []*netlab.WebClient
		for range 3 {
			for _, protocol := range []string{netlab.HTTP1, netlab.HTTP2} {
				clients = append(clients, s.keptClient(protocol))
			}
		}
		for i, client := range clients {
			s.waitFor(fmt.Sprintf("client %d comes to a", i), func() bool {
				page, err := fetch(&client.Client, pageOf(i))
				return err == nil && page == "a"
			})
		}
		download := s.slowDownload("http://192.168.1.2/data", 8*mib)
		var stop atomic.Bool
		var busy errgroup.Group
		for i, client := range clients[2:] { // the others are idle
			busy.Go(func() error {
				for !stop.Load() {
					if _, err := fetch(&client.Client, pageOf(i)); err != nil {
						return err
					}
				}
				return nil
			})
		}

		if said := s.vnic("drain", "a"); !strings.Contains(said, "Segment a is draining: ") || !strings.Contains(said, " of 192.168.10.2") {
			t.Errorf("the command says %q", said)
		}
		s.waitFor("only the download is left", func() bool { return s.established("a") == 1 })
		if said := s.vnic("status"); !strings.Contains(said, "Segment a is draining: 1 flow is left, 1 of 192.168.10.2.\n") {
			t.Errorf("the status says\n%s", said)
		}
		if got := len(download.rest()); got != 8*mib {
			t.Errorf("the download has %d bytes", got)
		}
		download.conn.Close()
		s.waitFor("no flow is left", func() bool { return s.established("a") == 0 })
		if said := s.vnic("drain", "a"); said != "Segment a is draining: no flow is left.\n" {
			t.Errorf("the command says %q", said)
		}
		stop.Store(true)
		if err := busy.Wait(); err != nil {
			t.Errorf("a request failed: %v", err)
		}
		s.vnic("activate", "a")
		for i := range 2 {
			client := s.keptClient([]string{netlab.HTTP1, netlab.HTTP2}[i])
			for range 3 {
				if page, err := fetch(&client.Client, pageOf(i)); err != nil || page != "a" {
					t.Errorf("after activate the page is %q, %v", page, err)
				}
			}
			if n := client.Connections(); n != 1 {
				t.Errorf("after activate there are %d connections", n)
			}
		}
	})
}

// keptClient is a client that keeps its connection.
func (s *scene) keptClient(protocol string) *netlab.WebClient {
	s.t.Helper()
	opts := netlab.WebOptions{Protocol: protocol, Address: paper.PseudoAddr}
	if protocol == netlab.HTTP2 {
		s.waitFor("the internal issuer", func() (ok bool) {
			var err error
			opts.Roots, err = s.caddy.Roots()
			return err == nil
		})
	}
	client, err := s.PC1.WebClient(opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	return client
}

// pageOf is the page of the i-th client: every second one speaks HTTP/2.
func pageOf(i int) string {
	return []string{"http://192.168.1.2/page", "https://192.168.1.2/page"}[i%2]
}

// A front closes the connections that it keeps to a segment that is drained, by either
// layer of vnic_proxy, also if the segment's server is not Caddy and would keep them.
func TestDrainEndsTheFrontsConnections(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := frontCaddyfile{datapath: datapath, a: "ports tcp/80", sites: `
http://www.example.com {
	bind vnic/front
	handle /fast {
		vnic_proxy a
	}
	handle /stock {
		vnic_proxy a {
			header_up X-Not plain
		}
	}
}
`}
		if err := s.tryStart(config.String()); err != nil {
			t.Fatal(err)
		}
		finish := make(chan struct{})
		s.serveHTTP(s.Server, "192.168.50.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "slow" {
				<-finish
			}
			io.WriteString(w, "done")
		}))
		get := func(path string) error {
			resp, err := s.PC1.HTTPClient().Do(s.toExample("http://192.168.1.2" + path))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && string(body) != "done" {
				err = fmt.Errorf("%s: %q", path, body)
			}
			return err
		}
		var slow errgroup.Group
		for _, path := range []string{"/fast", "/stock"} {
			if err := get(path); err != nil {
				t.Fatal(err)
			}
			slow.Go(func() error { return get(path + "?slow") })
		}
		s.waitFor("the connections of the front", func() bool { return s.established("a") >= 2 })
		if said := s.vnic("drain", "a"); !strings.Contains(said, " of 192.168.40.1") {
			t.Errorf("the command says %q", said)
		}
		s.waitFor("only the connections in use are left", func() bool { return s.established("a") == 2 })
		close(finish)
		if err := slow.Wait(); err != nil {
			t.Errorf("a request of before the drain: %v", err)
		}
		s.waitFor("no connection is left", func() bool { return s.established("a") == 0 })
		if err := get("/fast"); err != nil {
			t.Errorf("while a is drained the front's request fails: %v", err)
		}
		s.waitFor("that connection is not left either", func() bool { return s.established("a") == 0 })
		s.vnic("activate", "a")
		for _, path := range []string{"/fast", "/stock", "/fast", "/stock"} {
			if err := get(path); err != nil {
				t.Error(err)
			}
		}
		if n := s.established("a"); n != 2 {
			t.Errorf("after activate the front keeps %d connections, want 2", n)
		}
	})
}

// A front that is drained ends its clients' connections, also those of its lean server: idle
// ones at once, the others with the response that they wait for.
func TestDrainOfAFront(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := frontCaddyfile{datapath: datapath, a: "ports tcp/80", sites: `
http://www.example.com {
	bind vnic/front
	vnic_proxy a
}
`}
		if err := s.tryStart(config.String()); err != nil {
			t.Fatal(err)
		}
		asked, finish := make(chan struct{}), make(chan struct{})
		s.serveHTTP(s.Server, "192.168.50.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				asked <- struct{}{}
				<-finish
			}
			io.WriteString(w, "done")
		}))
		var busy *netlab.WebClient
		for range 3 { // the lean server begins with the second connection
			busy = s.keptClient(netlab.HTTP1)
			if _, err := fetch(&busy.Client, "http://www.example.com/"); err != nil {
				t.Fatal(err)
			}
		}
		answered := make(chan error, 1)
		go func() {
			resp, err := busy.Get("http://www.example.com/slow")
			if err == nil {
				resp.Body.Close()
			}
			answered <- err
		}()
		<-asked
		s.vnic("drain", "front")
		ofPC1 := "front&client=192.168.10.2"
		s.waitFor("only the connection in use is left", func() bool { return s.established(ofPC1) == 1 })
		close(finish)
		if err := <-answered; err != nil {
			t.Errorf("the request of before the drain: %v", err)
		}
		s.waitFor("no connection is left", func() bool { return s.established(ofPC1) == 0 })
	})
}

// established counts a segment's established flows.
func (s *scene) established(segment string) int {
	s.t.Helper()
	var list flowlist.List
	if err := json.Unmarshal([]byte(s.fromAdmin("/vnic/flows?state=established&segment="+segment)), &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Matched
}
