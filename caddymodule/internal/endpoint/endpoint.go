// Package endpoint connects to the admin API of the running instance.
package endpoint

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

// Endpoint is the address of an admin API.
type Endpoint struct {
	host   string // of requests
	origin string // of requests; empty: none is necessary
	text   string
	addr   caddy.NetworkAddress
}

// Parse parses an address, which is written as in Caddy's configuration: TCP or a Unix socket.
func Parse(address string) (*Endpoint, error) {
	addr, err := caddy.ParseNetworkAddress(address)
	if err != nil || addr.PortRangeSize() > 1 || addr.IsFdNetwork() {
		return nil, fmt.Errorf("cannot connect to the admin address %s: want host:port or unix/path (%v)", address, err)
	}
	e := &Endpoint{host: addr.JoinHostPort(0), origin: "http://" + addr.JoinHostPort(0), text: address, addr: addr}
	if addr.IsUnixNetwork() {
		e.addr.Host, _, _ = strings.Cut(addr.Host, "|") // the permissions of the socket
		e.host, e.origin = "127.0.0.1", ""
	}
	return e, nil
}

func (e *Endpoint) String() string { return e.text }

// Dial connects to the API.
func (e *Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, e.addr.Network, e.addr.JoinHostPort(0))
}

// Transport returns a transport for requests of any kind. Caddy logs each of them.
func (e *Endpoint) Transport() *http.Transport {
	t := transport(e.Dial)
	t.DisableKeepAlives = true // a reload closes idle connections, and no POST is made twice
	return t
}

// watchConns is how many requests of a watch are under way at once, each on a connection of its own.
const watchConns = 4

// Watch returns a transport for reading again and again. Caddy logs one line in [api.MaxWatch] about
// each of its connections, unless the instance knows no watch.
func (e *Endpoint) Watch() *http.Transport {
	t := transport(e.dialWatch)
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost = watchConns, watchConns
	return t
}

func transport(dial func(context.Context) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true,
		IdleConnTimeout:    30 * time.Second, // less than the instance waits for the next request
	}
}

// To returns a transport for requests to the endpoint, whose URLs have no host.
func (e *Endpoint) To(by http.RoundTripper) http.RoundTripper { return to{e, by} }

type to struct {
	*Endpoint
	by http.RoundTripper
}

func (t to) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	t.address(r)
	return t.by.RoundTrip(r)
}

// address makes a request one to the endpoint.
func (e *Endpoint) address(r *http.Request) {
	r.URL.Scheme, r.URL.Host, r.Host = "http", e.host, e.host
	if e.origin != "" {
		r.Header.Set("Origin", e.origin)
	}
}

// Get reads from the API. The errors are those of Caddy's own requests.
func (e *Endpoint) Get(by http.RoundTripper, uri string) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodGet, uri, nil)
	if err != nil {
		return nil, fmt.Errorf("making request: %w", err)
	}
	resp, err := e.To(by).RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("performing request: %w", err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("HTTP %d: reading error message: %w", resp.StatusCode, err)
	}
	return nil, fmt.Errorf("caddy responded with error: HTTP %d: %s", resp.StatusCode, said)
}

// dialWatch returns a connection that reads, or an ordinary one if the instance refuses that.
func (e *Endpoint) dialWatch(ctx context.Context) (net.Conn, error) {
	conn, err := e.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if e.upgrade(ctx, conn) {
		return conn, nil
	}
	conn.Close()
	return e.Dial(ctx)
}

// upgradeTimeout bounds how long an instance takes to say whether a connection is a watch.
const upgradeTimeout = 10 * time.Second

func (e *Endpoint) upgrade(ctx context.Context, conn net.Conn) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, api.WatchPath, nil)
	if err != nil {
		return false
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", api.WatchProtocol)
	e.address(r)
	_ = conn.SetDeadline(time.Now().Add(upgradeTimeout))
	defer conn.SetDeadline(time.Time{})
	if err := r.Write(conn); err != nil {
		return false
	}
	answers := bufio.NewReader(conn)
	resp, err := http.ReadResponse(answers, r)
	return err == nil && resp.StatusCode == http.StatusSwitchingProtocols && answers.Buffered() == 0
}
