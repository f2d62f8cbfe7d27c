package leanproxy

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// maxAllocations bounds the lean proxy's allocations for a request. They are the exchange, the
// head of the response, its fields' values and that of Via, and two for the placeholders.
const maxAllocations = 6

func TestAllocations(t *testing.T) {
	checkAllocations(t, newHandlers(t).fast)
}

func checkAllocations(t testing.TB, h *Handler) {
	t.Helper()
	request := newServedRequest()
	without := testing.AllocsPerRun(1000, func() { request.prepare() })
	with := testing.AllocsPerRun(1000, func() { request.serve(t, h) })
	if n := with - without; n > maxAllocations+testsite.Dropped {
		t.Errorf("%.1f allocations for a request, want at most %d", n, maxAllocations+testsite.Dropped)
	}
}

func BenchmarkLeanProxy(b *testing.B) {
	h := newHandlers(b).fast
	checkAllocations(b, h)
	benchmark(b, h)
}

func BenchmarkReverseProxy(b *testing.B) { benchmark(b, newHandlers(b).slow) }

func benchmark(b *testing.B, h *Handler) {
	request := newServedRequest()
	b.ReportAllocs()
	for b.Loop() {
		request.serve(b, h)
	}
}

type handlers struct{ fast, slow *Handler }

// newHandlers returns handlers of a running Caddy, in front of an upstream that allocates
// nothing.
func newHandlers(t testing.TB) handlers {
	t.Helper()
	address := []string{newEcho(t)}
	newRig(t, address, address, "")
	fast, _ := layers.Load(false)
	slow, _ := layers.Load(true)
	return handlers{&fast.(*layer).Handler, &slow.(*layer).Handler}
}

// newEcho starts a server that answers at once whatever it receives.
func newEcho(t testing.TB) (address string) {
	t.Helper()
	const response = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: today\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(conn, []byte(response))
		}
	}()
	return l.Addr().String()
}

func answerAll(conn net.Conn, response []byte) {
	defer conn.Close()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil || !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			return
		}
		if _, err := conn.Write(response); err != nil {
			return
		}
	}
}

// servedRequest is a request as Caddy's server passes it to a handler, and the writer of its
// response.
type servedRequest struct {
	*http.Request
	context context.Context
	header  http.Header
	status  int
	body    bytes.Buffer
}

func newServedRequest() *servedRequest {
	request, _ := http.NewRequest(http.MethodGet, "http://localhost/x", nil)
	request.RemoteAddr = "192.0.2.1:1234"
	request.Header = http.Header{"Accept": {"*/*"}, "User-Agent": {"x"}, "Accept-Encoding": {"gzip"}}
	ctx := context.WithValue(context.Background(), caddyhttp.VarsCtxKey, map[string]any{
		caddyhttp.TrustedProxyVarKey: false,
		caddyhttp.ClientIPVarKey:     "192.0.2.1",
	})
	ctx = context.WithValue(ctx, caddyhttp.ServerCtxKey, new(caddyhttp.Server))
	return &servedRequest{Request: request, context: ctx, header: make(http.Header)}
}

func (r *servedRequest) prepare() *http.Request {
	clear(r.header)
	r.body.Reset()
	return r.WithContext(context.WithValue(r.context, caddy.ReplacerCtxKey, caddy.NewReplacer()))
}

func (r *servedRequest) serve(t testing.TB, h *Handler) {
	if err := h.ServeHTTP(r, r.prepare(), nil); err != nil || r.status != http.StatusOK || r.body.String() != "hello" {
		t.Fatalf("%v %d %q", err, r.status, r.body.String())
	}
}

func (r *servedRequest) Header() http.Header         { return r.header }
func (r *servedRequest) Write(p []byte) (int, error) { return r.body.Write(p) }
func (r *servedRequest) WriteHeader(status int)      { r.status = status }
