package leanproxy

import (
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

// proxy is the lean proxy of one block.
type proxy struct {
	policy    reverseproxy.Selector
	pool      reverseproxy.UpstreamPool
	upstreams map[*reverseproxy.Upstream]*upstream
	unhealthy []int // statuses that count against an upstream
	logger    *zap.Logger
}

func newProxy(h *Handler, t *reverseproxy.HTTPTransport, logger *zap.Logger) *proxy {
	p := &proxy{
		policy:    h.LoadBalancing.SelectionPolicy,
		pool:      h.Upstreams,
		upstreams: make(map[*reverseproxy.Upstream]*upstream),
		logger:    logger,
	}
	for _, of := range h.Upstreams {
		p.upstreams[of] = newUpstream(of, t)
	}
	if h.HealthChecks != nil && h.HealthChecks.Passive != nil {
		p.unhealthy = h.HealthChecks.Passive.UnhealthyStatus
	}
	return p
}

func (p *proxy) close() {
	for _, u := range p.upstreams {
		u.close()
	}
}

func (p *proxy) closeIdle(address string) {
	for _, u := range p.upstreams {
		if u.of.Dial == address {
			u.closeIdle()
		}
	}
}

// buffers belong to an exchange until it ends.
type buffers struct {
	request  requestHead
	response responseHead
	read     [maxHead]byte
}

// maxHead is the size limit of the head of a plain response, in bytes.
const maxHead = 4096

var buffersPool = sync.Pool{New: func() any { return new(buffers) }}

// serve serves a request if the request and the upstream's response are plain. Otherwise
// it has sent nothing to the client, and reverse_proxy must go on, from begun unless begun
// is nil.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request) (served bool, begun *attempt) {
	b := buffersPool.Get().(*buffers)
	defer buffersPool.Put(b)
	if !b.request.write(r) {
		return false, nil
	}
	of := p.policy.Select(p.pool, r, w)
	if of == nil {
		return false, nil
	}
	u := p.upstreams[of]
	x := &exchange{proxy: p, upstream: u, r: r, w: w, begun: time.Now(), requests: of.NumRequests(), fails: of.Fails()}
	u.inFlight.Add(1)
	defer u.inFlight.Add(-1)
	if begun := x.roundTrip(b); begun != nil {
		return false, begun
	}
	x.deliver(&b.response)
	return true, nil
}
