package leanproxy

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/proxyprotocol"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

func init() { caddy.RegisterModule(new(onlyFirst)) }

// onlyFirst is a listener wrapper that passes the first connection on unchanged, and refuses
// all others.
type onlyFirst struct{}

func (*onlyFirst) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.only_first", New: func() caddy.Module { return new(onlyFirst) }}
}

func (*onlyFirst) WrapListener(l net.Listener) net.Listener { return &onlyFirstListener{Listener: l} }

type onlyFirstListener struct {
	net.Listener
	accepted atomic.Int32
}

func (l *onlyFirstListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && l.accepted.Add(1) > 1 {
		c.Close()
	}
	return c, err
}

// TestListenerWrappers checks that every connection passes the listener wrappers, whatever they
// did with the one before.
func TestListenerWrappers(t *testing.T) {
	at := testsite.FreeAddress(t)
	newServerRig(t, at, `"listener_wrappers": [{"wrapper": "only_first"}],`)
	for nth := range 5 {
		got := converse(t, testsite.Dial(t, at), "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if served := strings.HasPrefix(got, "HTTP/1.1 200"); served != (nth == 0) {
			t.Errorf("connection %d got %q", nth, got)
		}
	}
}

// TestProxyProtocol checks that after a client that proxy_protocol skips, other clients still
// pass proxy_protocol.
func TestProxyProtocol(t *testing.T) {
	at := testsite.FreeAddress(t)
	const proxy = "127.0.0.9"
	newServerRig(t, at, `"listener_wrappers": [{"wrapper": "proxy_protocol", "allow": ["`+proxy+`/32"], "fallback_policy": "SKIP", "timeout": "5s"}],`)
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(proxy)}}
	for range 3 {
		if got := converse(t, testsite.Dial(t, at), "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "for 127.") {
			t.Errorf("a client that is skipped got %q", got)
		}
		c, err := from.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(testsite.Patience)); err != nil {
			t.Fatal(err)
		}
		got := converse(t, c, "PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if !strings.Contains(got, "for 192.0.2.7") {
			t.Errorf("a client behind the proxy got %q", got)
		}
	}
}

var _ caddy.ListenerWrapper = (*proxyprotocol.ListenerWrapper)(nil) // its package registers it with Caddy

// newServerRig starts a Caddy with one site, whose upstream answers with the client's address.
func newServerRig(t *testing.T, at, more string) {
	t.Helper()
	u := newScripted(t, func(c *peer) bool {
		c.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfor " + c.request.Header.Get("X-Forwarded-For"))
		return false
	})
	new(rig).load(t, `"http": {"servers": {"one": `+server(at, more, []string{u.address}, "")+`}}`)
}

func converse(t *testing.T, c net.Conn, request string) string {
	t.Helper()
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return err.Error()
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(answer)
}
