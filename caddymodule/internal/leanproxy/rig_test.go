package leanproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/caddypki"
	_ "github.com/caddyserver/caddy/v2/modules/caddytls"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/http1"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

func init() {
	caddy.RegisterModule(new(layer))
	caddy.RegisterNetwork("site", func(ctx context.Context, _, address, port string, _ uint, cfg net.ListenConfig) (any, error) {
		return testsite.Listen(ctx, net.JoinHostPort(address, port), cfg)
	})
}

// layer is a Handler in a real Caddy, with or without its lean proxy.
type layer struct {
	Handler
	Slow bool `json:"slow,omitempty"`
}

func (*layer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.layer", New: func() caddy.Module { return new(layer) }}
}

func (l *layer) Provision(ctx caddy.Context) error {
	module, err := ctx.LoadModule(&l.Handler.Handler, "TransportRaw")
	if err != nil {
		return err
	}
	t := module.(*reverseproxy.HTTPTransport)
	t.Transport.Proxy = nil
	l.Transport = t
	if l.Slow {
		l.Disable()
	}
	if err := l.Handler.Provision(ctx); err != nil {
		return err
	}
	layers.Store(l.Slow, l)
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && !l.Slow {
		http1.Serve(server)
	}
	return nil
}

// layers has the layers of the configuration that was loaded last.
var layers sync.Map

// rig is a Caddy with two sites that differ only in the layer. Each site has its own upstreams,
// which are alike.
type rig struct {
	fast, slow side
}

// side is the site of one layer.
type side struct{ address string }

// newRig starts a Caddy whose sites proxy to these upstreams. options has further options of
// the handler, in JSON.
func newRig(t testing.TB, fast, slow []string, options string) *rig {
	t.Helper()
	r := &rig{fast: side{testsite.FreeAddress(t)}, slow: side{testsite.FreeAddress(t)}}
	r.load(t, fmt.Sprintf(`"http": {"servers": {"fast": %s, "slow": %s}}`,
		server(r.fast.address, "", fast, options), server(r.slow.address, "", slow, `"slow": true,`+options)))
	return r
}

func (r *rig) load(t testing.TB, apps string) {
	t.Helper()
	config := fmt.Sprintf(`{
		"admin": {"disabled": true, "config": {"persist": false}},
		"logging": {"logs": {"default": {"level": "FATAL"}}},
		"storage": {"module": "file_system", "root": %q},
		"apps": {%s, "pki": {"certificate_authorities": {"local": {"install_trust": false}}}}}`, t.TempDir(), apps)
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatal(err, config)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// server returns the JSON of a site. Its responses have X- fields with the layer that served
// them and the values of placeholders.
func server(listen, more string, upstreams []string, options string) string {
	var pool []map[string]string
	for _, upstream := range upstreams {
		pool = append(pool, map[string]string{"dial": upstream})
	}
	dials, _ := json.Marshal(pool)
	if !strings.Contains(options, `"transport"`) {
		options += `"transport": {"protocol": "http", "compression": false},`
	}
	return fmt.Sprintf(`{"listen": ["site/%s"], "protocols": ["h1", "h2"], "automatic_https": {"disable": true}, "write_idle_timeout": "2s", %s "routes": [{"handle": [
		{"handler": "headers", "response": {"deferred": true, "set": {"X-Path": ["{http.vnic_proxy.path}"], "X-Shown": [%q]}}},
		{"handler": "layer", %s "upstreams": %s}]}]}`, listen, more, shown, options, dials)
}

// shown has placeholders that must be the same in either layer.
var shown = strings.ReplaceAll("{upstream.address}|{upstream.hostport}|{upstream.host}|{upstream.port}|"+
	"{upstream.requests}|{upstream.max_requests}|{upstream.fails}|{status_code}|{status_text}|{header.X-A}", "{", "{http.reverse_proxy.")

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// scripted is an upstream that answers by a script, correctly or not.
type scripted struct {
	address string

	mu       sync.Mutex
	heads    []string // of the requests, byte by byte
	accepted int
}

// script answers a request on a connection, and tells whether the connection continues.
type script func(c *peer) (more bool)

// peer is the upstream's end of a connection.
type peer struct {
	io.Writer
	conn    *net.TCPConn
	r       *bufio.Reader
	request *http.Request
	nth     int // request of this connection
}

// write writes each piece by a call of its own.
func (c *peer) write(pieces ...string) {
	for _, piece := range pieces {
		_, _ = io.WriteString(c.Writer, piece) // a proxy may have gone
	}
}

func newScripted(t testing.TB, play script) *scripted {
	t.Helper()
	l := listen(t)
	s := &scripted{address: l.Addr().String()}
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.accepted++
			s.mu.Unlock()
			conns.Go(func() {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				s.serve(c.(*net.TCPConn), play)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		conns.Wait()
	})
	return s
}

func (s *scripted) serve(c *net.TCPConn, play script) {
	defer c.Close()
	var seen bytes.Buffer
	r := bufio.NewReader(io.TeeReader(c, &seen))
	for nth := 0; ; nth++ {
		begin := seen.Len() - r.Buffered()
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		head, _, _ := strings.Cut(seen.String()[begin:], "\r\n\r\n")
		s.mu.Lock()
		s.heads = append(s.heads, head)
		s.mu.Unlock()
		if !play(&peer{c, c, r, request, nth}) {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
	}
}

// take returns the requests since the last call.
func (s *scripted) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	heads := s.heads
	s.heads = nil
	return heads
}

func (s *scripted) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}
