// Package leanproxy is Caddy's reverse_proxy with a lean proxy before it.
//
// reverse_proxy does whatever a block can ask for. The lean proxy does what most requests
// need: a request without a body and its response, over HTTP/1.1 to a plain TCP upstream.
// The lean proxy serves behind the same Caddy server, so routing, TLS, HTTP/2, HTTP/3,
// logs and encode work as before.
//
// The lean proxy never decides about what is unusual. If a block, a request or a response
// is not plain beyond doubt, reverse_proxy serves it. reverse_proxy also handles every
// failure: an error or an unusual response that the lean proxy gets becomes the result of
// reverse_proxy's first round trip. So retries, health and errors are always those of
// reverse_proxy.
package leanproxy

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

// Handler is reverse_proxy with a lean proxy. Its Transport must be set before Provision.
// Only a [reverseproxy.HTTPTransport] allows a lean proxy.
type Handler struct {
	reverseproxy.Handler

	disabled bool
	lean     *proxy // nil if the block is not plain, or the lean proxy is disabled
	unknown  string // the option by which the block is not plain
}

// Disable leaves all requests to reverse_proxy. It must be called before Provision.
func (h *Handler) Disable() { h.disabled = true }

// Provision sets up reverse_proxy and, for a plain block, the lean proxy.
func (h *Handler) Provision(ctx caddy.Context) error {
	plain, isHTTP := h.Transport.(*reverseproxy.HTTPTransport)
	if isHTTP {
		h.Transport = &transport{plain} // now, because health checks begin to use it in Provision
	}
	if err := h.Handler.Provision(ctx); err != nil || h.disabled {
		return err
	}
	h.unknown = "transport"
	if isHTTP {
		h.unknown = h.unplain(plain)
	}
	if h.unknown != "" {
		ctx.Logger().Info("reverse_proxy serves all requests, because the lean proxy does not know an option", zap.String("option", h.unknown))
		return nil
	}
	h.lean = newProxy(h, plain, ctx.Logger())
	h.LoadBalancing.SelectionPolicy = &resumingPolicy{h.LoadBalancing.SelectionPolicy}
	return nil
}

// IsLean tells whether the lean proxy serves requests of a provisioned block.
func (h *Handler) IsLean() bool { return h.lean != nil }

// Cleanup closes the idle connections, and cleans up reverse_proxy.
func (h *Handler) Cleanup() error {
	if h.lean != nil {
		h.lean.close()
	}
	return h.Handler.Cleanup()
}

// CloseIdle closes the idle connections to an address. It also closes all idle connections
// of reverse_proxy's own transport, which has no way to close those to one address.
func (h *Handler) CloseIdle(address string) {
	if h.lean != nil {
		h.lean.closeIdle(address)
	}
	if t, ok := h.Transport.(*transport); ok {
		t.Transport.CloseIdleConnections()
	}
}

// CloseTunnels closes the upgraded connections that Cleanup has left open.
func (h *Handler) CloseTunnels() error {
	stock := h.Handler // this copy has the same connections
	stock.StreamCloseDelay, stock.Upstreams = 0, nil
	return stock.Cleanup()
}

// ServeHTTP serves a request by the lean proxy. reverse_proxy serves what the lean proxy
// does not.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.lean != nil {
		served, begun := h.lean.serve(w, r)
		if served {
			return nil
		}
		if begun != nil {
			return h.resume(w, r, begun, next)
		}
	}
	setPath(r)
	return h.Handler.ServeHTTP(w, withoutHearsay(r), next)
}

func setPath(r *http.Request) {
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set(pathPlaceholder, "reverse_proxy")
}
