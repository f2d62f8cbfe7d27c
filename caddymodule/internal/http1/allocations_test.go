package http1

import (
	"io"
	"net/http"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// maxAllocations bounds the allocations of a request and its response. They are one of the
// handler's, the head as text, the request, its URL, its header with the values (3), its
// context (2), the response, and the response's header.
const maxAllocations = 11

func TestAllocations(t *testing.T) { checkAllocations(t, newExchange(t)) }

func checkAllocations(t testing.TB, e *exchange) {
	t.Helper()
	if n := testing.AllocsPerRun(1000, e.run); n > maxAllocations+testsite.Dropped {
		t.Errorf("%.1f allocations for a request, want at most %d", n, maxAllocations+testsite.Dropped)
	}
}

func BenchmarkPlain(b *testing.B) {
	e := newExchange(b)
	checkAllocations(b, e)
	b.ReportAllocs()
	for b.Loop() {
		e.run()
	}
}

// exchange is a client that allocates nothing.
type exchange struct {
	c        io.ReadWriter
	t        testing.TB
	request  []byte
	response [1024]byte
}

func newExchange(t testing.TB) *exchange {
	at := testsite.FreeAddress(t)
	contentType, length := []string{"text/plain"}, []string{"5"}
	body := []byte("hello")
	startPlain(t, at, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header["Content-Type"], header["Content-Length"] = contentType, length
		w.Write(body)
	})})
	return &exchange{c: testsite.Dial(t, at), t: t, request: []byte("GET /x HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: x\r\n\r\n")}
}

func (e *exchange) run() {
	if _, err := e.c.Write(e.request); err != nil {
		e.t.Fatal(err)
	}
	if n, err := e.c.Read(e.response[:]); err != nil || n < 5 || string(e.response[n-5:n]) != "hello" {
		e.t.Fatalf("%q: %v", e.response[:n], err)
	}
}
