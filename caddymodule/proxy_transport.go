package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
)

// dialFunc is the DialContext of an http.Transport.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// setTransport gives the reverse proxy the stock HTTP transport, which dials from the
// segment's network namespace. Other transports dial from the host's namespace, so they
// work only for a segment that lives there.
func (p *Proxy) setTransport(ctx caddy.Context, app *App, own string) error {
	completed, isHTTP, err := httpTransport(p.TransportRaw)
	if err != nil {
		return err
	}
	netns := app.Segments[own].Netns
	if !isHTTP {
		if netns != "" {
			return fmt.Errorf("the transport must be http, because segment %s lives in netns %s", own, netns)
		}
		return nil
	}
	p.TransportRaw = completed
	module, err := ctx.LoadModule(&p.Handler.Handler, "TransportRaw")
	if err != nil {
		return fmt.Errorf("loading the transport: %w", err)
	}
	transport := module.(*reverseproxy.HTTPTransport)
	if netns != "" && slices.Contains(transport.Versions, "3") {
		return fmt.Errorf("HTTP/3 to a segment is not supported, because the site's own segment %s lives in a netns", own)
	}
	rt := transport.Transport
	if !byForwardProxy(completed) {
		rt.Proxy = nil // HTTP_PROXY of the environment is for hosts outside
	}
	rt.DialContext = dialFrom(ctx, app, own, rt.DialContext)
	if rt.DialTLSContext != nil {
		rt.DialTLSContext = dialFrom(ctx, app, own, rt.DialTLSContext)
	}
	p.Transport = transport
	return nil
}

// httpTransport completes the JSON of an HTTP transport with defaults for the segments of
// one machine:
//
//   - no compression that the client has not asked for, because the other end is near;
//   - as many idle connections as a busy front uses at once, because with fewer
//     Caddy would open and close connections all the time.
func httpTransport(raw json.RawMessage) (completed json.RawMessage, isHTTP bool, err error) {
	fields := map[string]json.RawMessage{
		"protocol":    json.RawMessage(`"http"`),
		"compression": json.RawMessage(`false`),
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, false, fmt.Errorf("transport: %w", err)
		}
	}
	if string(fields["protocol"]) != `"http"` {
		return nil, false, nil
	}
	keepAlive := map[string]json.RawMessage{"max_idle_conns_per_host": json.RawMessage(`256`)}
	if set := fields["keep_alive"]; set != nil {
		if err := json.Unmarshal(set, &keepAlive); err != nil {
			return nil, false, fmt.Errorf("transport: keep_alive: %w", err)
		}
	}
	if fields["keep_alive"], err = json.Marshal(keepAlive); err != nil {
		return nil, false, err
	}
	completed, err = json.Marshal(fields)
	return completed, true, err
}

// byForwardProxy tells whether the JSON of an HTTP transport names a forward proxy.
func byForwardProxy(transport json.RawMessage) bool {
	var named struct {
		NetworkProxy    json.RawMessage `json:"network_proxy"`
		ForwardProxyURL string          `json:"forward_proxy_url"`
	}
	return json.Unmarshal(transport, &named) == nil && (named.NetworkProxy != nil || named.ForwardProxyURL != "")
}

// dialFrom dials from a segment. It waits until the configuration runs, because health
// checks begin before the segments exist, and would find every upstream down.
//
// It calls the transport's own dial. By the errors of that dial the reverse proxy knows
// that nothing has been sent, so that it may retry a POST.
func dialFrom(config caddy.Context, app *App, segment string, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		if err := app.fronts.waitStarted(ctx, config); err != nil {
			return nil, err
		}
		err = process.Plane.In(segment, func() (err error) {
			conn, err = dial(ctx, network, address)
			return err
		})
		return conn, err
	}
}
