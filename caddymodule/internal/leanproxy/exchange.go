package leanproxy

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// exchange is one request and its response.
type exchange struct {
	proxy    *proxy
	upstream *upstream
	r        *http.Request
	w        http.ResponseWriter
	conn     *conn
	rest     []byte // what has been read after the head
	flushed  bool   // the client has been sent the head

	// What placeholders tell.
	begun             time.Time
	latency, duration time.Duration
	requests, fails   int
	head              string
}

// roundTrip sends the request and reads the head of the response. If it fails, or if the
// response is not plain, it returns an attempt.
func (x *exchange) roundTrip(b *buffers) *attempt {
	for {
		c, err := x.upstream.take(x.r.Context(), x.begun)
		if err != nil {
			return x.failed(err)
		}
		n, err := c.ask(x.r.Context(), b)
		x.latency = time.Since(x.begun)
		if err == nil {
			return x.answered(c, b, n)
		}
		c.discard()
		if c.keptSince.IsZero() || !replayable(x.r) || x.r.Context().Err() != nil {
			return x.failed(err)
		}
		// The upstream closed a kept connection instead of taking the request.
	}
}

// ask sends the request, and reads what comes first.
func (c *conn) ask(ctx context.Context, b *buffers) (n int, err error) {
	if _, err := c.Write(b.request.buf); err != nil {
		return 0, err
	}
	n, err = c.readBriefly(ctx, b.read[:])
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// answered reads the head. A head that has not come whole is not plain.
func (x *exchange) answered(c *conn, b *buffers, n int) *attempt {
	const end = "\r\n\r\n"
	read := b.read[:n]
	if i := bytes.Index(read, []byte(end)); i >= 0 {
		x.head, x.rest = string(read[:i+len(end)]), read[i+len(end):]
		if b.response.parse(x.head, x.r.Method) && !x.strikes(b.response.status) {
			x.conn = c
			return nil
		}
	}
	if err := c.watch(x.r.Context()); err != nil {
		c.discard()
		return x.failed(err)
	}
	return &attempt{upstream: x.upstream, latency: x.latency, conn: c, read: slices.Clone(read)}
}

// strikes tells whether a response counts against its upstream's health.
func (x *exchange) strikes(status int) bool {
	return slices.ContainsFunc(x.proxy.unhealthy, func(bad int) bool { return caddyhttp.StatusCodeMatches(status, bad) })
}

func (x *exchange) failed(err error) *attempt {
	if gone := context.Cause(x.r.Context()); gone != nil {
		err = gone // the client, and so the connection
	}
	return &attempt{upstream: x.upstream, latency: x.latency, err: err}
}

// deliver writes the response to the client.
func (x *exchange) deliver(head *responseHead) {
	x.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(x.placeholder)
	if c := x.proxy.logger.Check(zapcore.DebugLevel, "upstream roundtrip"); c != nil {
		c.Write(
			zap.String("path", "fast"),
			zap.String("upstream", x.upstream.of.String()),
			zap.Duration("duration", x.latency),
			zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: x.r}),
			zap.Int("status", head.status),
		)
	}
	head.copyTo(x.w.Header())
	x.w.WriteHeader(head.status)
	whole, err := x.copyBody(head.length)
	if err != nil {
		x.conn.discard()
		x.proxy.abort(x.w, err)
	}
	if x.conn.unwatched() && whole && !head.close {
		x.upstream.keep(x.conn)
	} else {
		x.conn.Close()
	}
	x.duration = time.Since(x.begun)
}
