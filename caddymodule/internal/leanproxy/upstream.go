package leanproxy

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// upstream is one of a block's upstreams, and its idle connections.
type upstream struct {
	of       *reverseproxy.Upstream
	at       reverseproxy.DialInfo
	inFlight *atomic.Int64
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	maxIdle     int
	idleTimeout time.Duration

	mu     sync.Mutex
	closed bool
	idle   []*conn // the one kept longest comes first
	sweep  *time.Timer
}

func newUpstream(of *reverseproxy.Upstream, t *reverseproxy.HTTPTransport) *upstream {
	address, _ := caddy.ParseNetworkAddress(of.Dial) // which has been parsed before
	u := &upstream{
		of: of,
		at: reverseproxy.DialInfo{
			Upstream: of,
			Network:  address.Network,
			Address:  address.JoinHostPort(0),
			Host:     address.Host,
			Port:     strconv.Itoa(int(address.StartPort)),
		},
		inFlight:    inFlight(of.Host),
		dial:        t.Transport.DialContext,
		maxIdle:     t.KeepAlive.MaxIdleConnsPerHost,
		idleTimeout: time.Duration(t.KeepAlive.IdleConnTimeout),
	}
	u.sweep = time.AfterFunc(u.idleTimeout, u.closeExpired)
	u.sweep.Stop()
	return u
}

// take returns the idle connection that was kept last. If there is none, it opens one.
func (u *upstream) take(ctx context.Context, now time.Time) (*conn, error) {
	for {
		c := u.takeIdle()
		if c == nil {
			return u.open(ctx)
		}
		if c.renew(now) == nil && c.quiet() {
			return c, nil
		}
		c.discard()
	}
}

func (u *upstream) takeIdle() *conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := len(u.idle) - 1
	if last < 0 {
		return nil
	}
	c := u.idle[last]
	u.idle[last] = nil
	u.idle = u.idle[:last]
	return c
}

func (u *upstream) open(ctx context.Context) (*conn, error) {
	dialed, err := u.dial(ctx, u.at.Network, u.at.Address)
	if err != nil {
		return nil, err
	}
	tcp, ok := dialed.(*net.TCPConn)
	if !ok {
		dialed.Close()
		return nil, fmt.Errorf("the connection to %s is a %T, not TCP", u.at.Address, dialed)
	}
	c, err := newConn(tcp)
	if err != nil {
		dialed.Close()
	}
	return c, err
}

// keep keeps a connection for the next request.
func (u *upstream) keep(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || len(u.idle) >= u.maxIdle {
		c.discard()
		return
	}
	c.keptSince = time.Now()
	if len(u.idle) == 0 {
		u.sweep.Reset(u.idleTimeout)
	}
	u.idle = append(u.idle, c)
}

// closeExpired closes the connections that have been idle for longer than idleTimeout.
func (u *upstream) closeExpired() {
	u.mu.Lock()
	defer u.mu.Unlock()
	expired := 0
	for _, c := range u.idle {
		if time.Since(c.keptSince) < u.idleTimeout {
			break
		}
		c.discard()
		expired++
	}
	n := copy(u.idle, u.idle[expired:])
	clear(u.idle[n:])
	u.idle = u.idle[:n]
	if n > 0 {
		u.sweep.Reset(u.idleTimeout - time.Since(u.idle[0].keptSince))
	}
}

// close closes the idle connections now, and the others when they come back.
func (u *upstream) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.discardIdle()
}

// closeIdle closes the idle connections.
func (u *upstream) closeIdle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.discardIdle()
}

func (u *upstream) discardIdle() {
	u.sweep.Stop()
	for _, c := range u.idle {
		c.discard()
	}
	u.idle = nil
}
