package sites_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// HTTP servers take over from each other, as in Caddy's reloads, while clients send
// requests. No request is lost, by new connections or by kept ones.
func TestHandOverLosesNoRequest(t *testing.T) {
	for _, test := range []struct {
		name        string
		secure, two bool
		kept        bool
	}{
		{name: "HTTP/1"},
		{name: "HTTP/1 kept alive", kept: true},
		{name: "HTTPS/1", secure: true},
		{name: "HTTPS/1 kept alive", secure: true, kept: true},
		{name: "HTTP/2", secure: true, two: true},
		{name: "HTTP/2 kept alive", secure: true, two: true, kept: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
			shutdown := serveHTTP(t, sockets, at, test.secure)
			ctx, cancel := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			var requests atomic.Int64
			for range 8 {
				protocols := new(http.Protocols)
				protocols.SetHTTP1(!test.two)
				protocols.SetHTTP2(test.two)
				client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
					DisableKeepAlives: !test.kept, Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
				}}
				clients.Go(func() {
					defer client.CloseIdleConnections()
					scheme := map[bool]string{true: "https", false: "http"}[test.secure]
					for ctx.Err() == nil {
						resp, err := client.Get(fmt.Sprintf("%s://%s/", scheme, firstOf(at)))
						if err != nil {
							t.Error(err)
							return
						}
						body, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if err != nil || string(body) != "done" {
							t.Errorf("%q, %v", body, err)
						}
						requests.Add(1)
					}
				})
			}
			const generations = 20
			var ending sync.WaitGroup
			for range generations {
				next := serveHTTP(t, sockets, at, test.secure)
				sockets.HandOver()
				ending.Go(shutdown)
				shutdown = next
				time.Sleep(5 * time.Millisecond)
			}
			cancel()
			clients.Wait()
			shutdown()
			ending.Wait()
			if n := requests.Load(); n < generations {
				t.Errorf("only %d requests were made: no load", n)
			}
		})
	}
}

// serveHTTP starts an HTTP server of package net/http. shutdown ends it in order.
func serveHTTP(t *testing.T, sockets *sites.Sockets, at sites.Address, secure bool) (shutdown func()) {
	t.Helper()
	l, err := sockets.Listen(t.Context(), at, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") }))
	s.Listener.Close()
	s.Listener = l
	s.EnableHTTP2 = true
	s.Config.ConnState, s.Config.ConnContext = sockets.ConnState, sockets.ConnContext
	start := s.Start
	if secure {
		start = s.StartTLS
	}
	start()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Config.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}
}

// What has not come to a request is not waited for without end: a client that has been
// silent for a second loses its connection, and one that sends a request in time gets its
// answer.
func TestHandOverWaitsForARequestThatIsComing(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	shutdown := serveHTTP(t, sockets, at, false)
	coming, silent := dialAt(t, at), dialAt(t, at)
	if _, err := io.WriteString(coming, "GET / HTTP/1.1\r\nHost: a\r\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // for the server to read it
	next := serveHTTP(t, sockets, at, false)
	t.Cleanup(next)
	handed := make(chan struct{})
	go func() {
		defer close(handed)
		sockets.HandOver()
		shutdown()
	}()
	time.Sleep(300 * time.Millisecond)
	if _, err := io.WriteString(coming, "\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(coming); err != nil || len(answer) == 0 {
		t.Errorf("the request gets %q, %v", answer, err)
	}
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent connection: %v", err)
	}
	<-handed
}

// dialAt connects to an address, for ten seconds at most.
func dialAt(t *testing.T, at sites.Address) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", firstOf(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}
