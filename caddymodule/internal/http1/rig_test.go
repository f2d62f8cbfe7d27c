package http1

import (
	"bufio"
	"cmp"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// start starts a server on an address of a segment.
func start(t testing.TB, at string, s *http.Server) *http.Server {
	t.Helper()
	l, err := testsite.Listen(t.Context(), at, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s.ReadHeaderTimeout = cmp.Or(s.ReadHeaderTimeout, time.Minute)
	s.IdleTimeout = cmp.Or(s.IdleTimeout, time.Minute)
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return s
}

// startPlain starts a server whose listener this package serves.
func startPlain(t testing.TB, at string, s *http.Server) *http.Server {
	t.Helper()
	s.ConnContext = adopt
	start(t, at, s)
	if got := ask(t, at, "GET /length HTTP/1.1\r\nConnection: close\r\n"); !strings.Contains(got, "200 OK") {
		t.Fatal(got) // net/http serves the first connection
	}
	return s
}

var dateField = regexp.MustCompile(`Date: [^\r]*GMT\r\n`)

// ask sends requests one after the other on a connection, and returns all that comes back.
func ask(t testing.TB, at string, requests ...string) string {
	t.Helper()
	c := testsite.Dial(t, at)
	defer c.Close()
	var seen strings.Builder
	r := bufio.NewReader(io.TeeReader(c, &seen))
	for _, request := range requests {
		if err := converse(c, r, request); err != nil {
			seen.WriteString("[the end]") // whether there is a reset depends on timing
			break
		}
	}
	return dateField.ReplaceAllString(seen.String(), "Date: now\r\n")
}

// converse adds a Host to a request, sends it, and reads the response.
func converse(w io.Writer, r *bufio.Reader, request string) error {
	for piece := range strings.SplitSeq(testsite.Request(request), "<pause>") {
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
