package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// host is a plane without segments, for clients of the host itself.
type host struct{}

func (host) OpenPort(string, vnicbridge.PortRange) (release func()) { return func() {} }

func (host) Client(vnicbridge.Protocol, netip.AddrPort, netip.AddrPort) (client netip.AddrPort, ok bool) {
	return client, false
}

func (host) Alias(vnicbridge.Protocol, netip.AddrPort, netip.AddrPort) (alias netip.AddrPort, ok bool) {
	return alias, false
}

func (host) In(_ string, f func() error) error { return f() }

// patience is longer than anything takes that works.
const patience = 20 * time.Second

var sockets = sites.NewSockets(host{})

// freeAddress is one that nothing listens on, and that no other call has returned: of
// a loopback address of its own, as the kernel may give a port that was just closed
// to the next who asks.
func freeAddress(t testing.TB) netip.AddrPort {
	t.Helper()
	n := addresses.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.2.%d.%d:0", n>>8, n&0xff))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// addresses counts what freeAddress returned.
var addresses atomic.Uint32

// start has a server listen on an address of a segment.
func start(t testing.TB, at netip.AddrPort, s *http.Server) *http.Server {
	t.Helper()
	l, err := sockets.Listen(t.Context(), sites.Address{Local: at}, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s.ReadHeaderTimeout, s.IdleTimeout = time.Minute, time.Minute
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return s
}

// startPlain starts a server whose listener this package serves.
func startPlain(t testing.TB, at netip.AddrPort, s *http.Server) *http.Server {
	t.Helper()
	s.ConnContext = adopt
	start(t, at, s)
	if got := ask(t, at, "GET /length HTTP/1.1\r\nConnection: close\r\n"); !strings.Contains(got, "200 OK") {
		t.Fatal(got) // the first connection is net/http's
	}
	return s
}

func dial(t testing.TB, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err == nil {
		err = c.SetDeadline(time.Now().Add(patience))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var dateField = regexp.MustCompile(`Date: [^\r]*GMT\r\n`)

// ask sends requests one after the other on a connection, and returns all that comes
// back.
func ask(t testing.TB, at netip.AddrPort, requests ...string) string {
	t.Helper()
	c := dial(t, at)
	defer c.Close()
	var seen strings.Builder
	r := bufio.NewReader(io.TeeReader(c, &seen))
	for _, request := range requests {
		if err := converse(c, r, request); err != nil {
			seen.WriteString("[the end]") // a reset or not, which is a matter of time
			break
		}
	}
	return dateField.ReplaceAllString(seen.String(), "Date: now\r\n")
}

// converse sends a request, whose Host is added, and reads the response.
func converse(w io.Writer, r *bufio.Reader, request string) error {
	line, rest, _ := strings.Cut(request, "\r\n")
	if !strings.Contains(rest, "\r\n\r\n") {
		rest += "\r\n"
	}
	for piece := range strings.SplitSeq(line+"\r\nHost: localhost\r\n"+rest, "<pause>") {
		if _, err := io.WriteString(w, piece); err != nil {
			return err
		}
	}
	method, _, _ := strings.Cut(request, " ")
	for {
		response, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		if err != nil || response.StatusCode >= 200 {
			return err
		}
	}
}

// waitFor waits until something holds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("it is not so that %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
