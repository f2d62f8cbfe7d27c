// Package fastproxy is Caddy's reverse_proxy with a fast path.
//
// reverse_proxy does what a block may ask for. The fast path does what most
// requests need: a request without a body and its response, over HTTP/1.1 to a
// plain TCP upstream. It serves behind the same Caddy server, so all that is before
// a proxy (routing, TLS, HTTP/2 and 3, logs, encode) is as ever.
//
// It never decides about what is unusual. A block, a request or a response that is
// not plain beyond doubt is reverse_proxy's, and so is every failure: what the fast
// path has come to by then, be it an error or an odd response, becomes what
// reverse_proxy's first round trip returns. Retries, health and errors are thus
// those of reverse_proxy, whichever way a request began.
package fastproxy

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

// Handler is reverse_proxy with a fast path. Its Transport must be set before it is
// provisioned; there is a fast path if that is a [reverseproxy.HTTPTransport].
type Handler struct {
	reverseproxy.Handler

	fast    *path  // nil if the block is not plain
	unknown string // the option by which it is not
}

// Provision sets up reverse_proxy and, for a plain block, the fast path.
func (h *Handler) Provision(ctx caddy.Context) error {
	plain, isHTTP := h.Transport.(*reverseproxy.HTTPTransport)
	if isHTTP {
		h.Transport = &transport{plain} // now, as health checks begin to use it
	}
	if err := h.Handler.Provision(ctx); err != nil {
		return err
	}
	h.unknown = "transport"
	if isHTTP {
		h.unknown = h.unplain(plain)
	}
	if h.unknown != "" {
		ctx.Logger().Info("no fast path, because of an option that it does not know", zap.String("option", h.unknown))
		return nil
	}
	h.fast = newPath(h, plain, ctx.Logger())
	h.LoadBalancing.SelectionPolicy = &resumingPolicy{h.LoadBalancing.SelectionPolicy}
	return nil
}

// HasFastPath tells whether a provisioned block is plain.
func (h *Handler) HasFastPath() bool { return h.fast != nil }

// Cleanup closes the idle connections, and cleans reverse_proxy up.
func (h *Handler) Cleanup() error {
	if h.fast != nil {
		h.fast.close()
	}
	return h.Handler.Cleanup()
}

// CloseIdle closes the idle connections to an address. Those of reverse_proxy's own
// transport to other addresses are closed, too.
func (h *Handler) CloseIdle(address string) {
	if h.fast != nil {
		h.fast.closeIdle(address)
	}
	if t, ok := h.Transport.(*transport); ok {
		t.Transport.CloseIdleConnections()
	}
}

// CloseTunnels closes what was upgraded, after Cleanup, if that has left it open.
func (h *Handler) CloseTunnels() error {
	stock := h.Handler // whose connections are the same
	stock.StreamCloseDelay, stock.Upstreams = 0, nil
	return stock.Cleanup()
}

// ServeHTTP serves a request by the fast path, or as far as that does not, by
// reverse_proxy.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.fast != nil {
		served, begun := h.fast.serve(w, r)
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
