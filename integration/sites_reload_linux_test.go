package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// reloadedSites are a site of segment a, and a front's site that passes requests on to it.
const reloadedSites = `
http://192.168.1.2:8080, https://192.168.1.2:8443 {
	bind vnic/a
	tls internal
	respond "a"
}
http://192.168.1.2, https://192.168.1.2 {
	bind vnic/front
	tls internal
	vnic_proxy a:8080
}
`

// The pages of reloadedSites.
var (
	plainPages  = []string{"http://192.168.1.2:8080/", "http://192.168.1.2/"}
	securePages = []string{"https://192.168.1.2:8443/", "https://192.168.1.2/"}
)

// Forced reloads of the same configuration cost no request: neither of clients that make a
// connection for each request, nor of those that keep their connections; at a segment's
// site, and at a front, whose plain HTTP the lean server serves; over HTTP/1 with and
// without TLS, and over HTTP/2.
func TestReloadsLoseNoRequest(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := frontCaddyfile{datapath: datapath, bridge: "lb_policy first a", sites: reloadedSites}
		if err := s.tryStart(config.String()); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name     string
			protocol string
			urls     []string
			kept     bool
		}{
			{"HTTP/1", netlab.HTTP1, plainPages, false},
			{"HTTP/1 kept alive", netlab.HTTP1, plainPages, true},
			{"HTTPS/1", netlab.HTTP1, securePages, false},
			{"HTTP/2", netlab.HTTP2, securePages, false},
			{"HTTP/2 kept alive", netlab.HTTP2, securePages, true},
		} {
			t.Run(test.name, func(t *testing.T) {
				load := s.startRequests(test.protocol, test.urls, test.kept)
				defer load.finish(t)
				for range 10 {
					s.loadText(config.String())
					time.Sleep(20 * time.Millisecond) // of load on one configuration
				}
			})
		}
	})
}

// A reload that fails because another app does costs no request either. Caddy starts apps in
// any order, so in half of the reloads the new servers have begun to accept.
func TestFailingReloadsLoseNoRequest(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.listen(s.Server, "0.0.0.0:8099", say("a port that is taken"))
		config := frontCaddyfile{datapath: datapath, bridge: "lb_policy first a", sites: reloadedSites}
		if err := s.tryStart(config.String()); err != nil {
			t.Fatal(err)
		}
		for _, urls := range [][]string{plainPages, securePages} {
			load := s.startRequests(netlab.HTTP1, urls, false)
			for range 10 {
				if answer, err := s.postText(config.String() + ":8099 {\nrespond never\n}\n"); err != nil || !strings.Contains(answer, "address already in use") {
					t.Errorf("POST /load says %q (%v)", answer, err)
				}
				time.Sleep(20 * time.Millisecond) // of load on one configuration
			}
			load.finish(t)
		}
	})
}

// requestLoad is eight clients that request one page after the other.
type requestLoad struct {
	clients sync.WaitGroup
	end     context.CancelFunc
	done    atomic.Int64

	mu     sync.Mutex
	failed []error
}

// startRequests starts the load. Each client requests the pages in turn. A client that does
// not keep its connections makes one for each request.
func (s *scene) startRequests(protocol string, urls []string, kept bool) *requestLoad {
	s.t.Helper()
	return s.startRequestsTo(paper.PseudoAddr, protocol, urls, kept)
}

func (s *scene) startRequestsTo(address netip.Addr, protocol string, urls []string, kept bool) *requestLoad {
	s.t.Helper()
	opts := netlab.WebOptions{Protocol: protocol, Address: address}
	s.waitFor("the internal issuer", func() (ok bool) {
		var err error
		opts.Roots, err = s.caddy.Roots()
		return err == nil
	})
	ctx, end := context.WithCancel(s.t.Context())
	l := &requestLoad{end: end}
	for range 8 {
		client, err := s.PC1.WebClient(opts)
		if err != nil {
			s.t.Fatal(err)
		}
		client.Transport.(*http.Transport).DisableKeepAlives = !kept
		for _, url := range urls {
			s.waitFor(url, func() bool {
				page, err := fetch(&client.Client, url)
				return err == nil && page == "a"
			})
		}
		l.clients.Go(func() {
			defer client.Close()
			for i := 0; ctx.Err() == nil; i++ {
				l.count(fetch(&client.Client, urls[i%len(urls)]))
			}
		})
	}
	return l
}

func (l *requestLoad) count(page string, err error) {
	if err == nil && page != "a" {
		err = fmt.Errorf("the page is %q", page)
	}
	if err == nil {
		l.done.Add(1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

// finish ends the load, and checks that no request has failed.
func (l *requestLoad) finish(t *testing.T) {
	t.Helper()
	l.end()
	l.clients.Wait()
	t.Logf("%d requests", l.done.Load())
	if n := len(l.failed); n > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", n, int64(n)+l.done.Load(), l.failed[0])
	}
	if l.done.Load() < 100 {
		t.Error("no load")
	}
}
