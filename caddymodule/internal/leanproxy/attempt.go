package leanproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// attempt is a round trip of the lean proxy that has failed, or whose response is not
// plain. The request carries the attempt to reverse_proxy. There, the attempt becomes the
// result of the first choice of an upstream, and of the first round trip.
type attempt struct {
	upstream *upstream
	latency  time.Duration

	err  error
	conn *conn  // the response's connection, if there is no error
	read []byte // the part of the response that has been read
	head *headFirst

	chosen, taken bool
}

type attemptKey struct{}

func (a *attempt) carriedBy(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), attemptKey{}, a))
}

func attemptOf(r *http.Request) *attempt {
	a, _ := r.Context().Value(attemptKey{}).(*attempt)
	return a
}

// end closes the connection, unless reverse_proxy has taken the attempt.
func (a *attempt) end() {
	if !a.taken && a.conn != nil {
		a.conn.discard()
	}
}

// resume lets reverse_proxy go on from an attempt.
func (h *Handler) resume(w http.ResponseWriter, r *http.Request, a *attempt, next caddyhttp.Handler) error {
	defer a.end()
	setPath(r)
	defer a.addTime(r)
	a.head = newHeadFirst(w)
	stock := h.Handler
	if lb := *h.LoadBalancing; lb.TryDuration > 0 {
		// The attempt has taken some of that time.
		lb.TryDuration = max(1, lb.TryDuration-caddy.Duration(a.latency))
		stock.LoadBalancing = &lb
	}
	return stock.ServeHTTP(a.head, withoutHearsay(a.carriedBy(r)), next)
}

// addTime adds the attempt's time to the placeholders of durations that include the
// attempt.
func (a *attempt) addTime(r *http.Request) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	names := []string{"duration"}
	if retries, _ := repl.Get(placeholders + "retries"); retries == 0 {
		names = append(names, "upstream.latency", "upstream.duration")
	}
	for _, name := range names {
		if value, ok := repl.Get(placeholders + name); ok {
			whole := value.(time.Duration) + a.latency
			repl.Set(placeholders+name, whole)
			repl.Set(placeholders+name+"_ms", milliseconds(whole))
		}
	}
}

// resumingPolicy first chooses the upstream of an attempt, then leaves the choice to the
// policy.
type resumingPolicy struct{ reverseproxy.Selector }

func (p *resumingPolicy) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	if a := attemptOf(r); a != nil && !a.chosen {
		a.chosen = true
		return a.upstream.of
	}
	return p.Selector.Select(pool, r, w)
}

// transport first returns the result of an attempt, then makes round trips itself.
type transport struct{ *reverseproxy.HTTPTransport }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	boundProvisional(r, t.headLimit())
	a := attemptOf(r)
	if a == nil || a.taken {
		return t.HTTPTransport.RoundTrip(r)
	}
	a.taken = true
	if a.err != nil {
		return nil, a.err
	}
	response, err := a.readResponse(r, t.headLimit())
	if err != nil {
		a.conn.discard()
		if gone := context.Cause(r.Context()); gone != nil {
			err = gone
		}
	}
	return response, err
}

// headLimit is the size limit of the head of any response, in bytes.
func (t *transport) headLimit() int64 {
	if t.MaxResponseHeaderSize > 0 {
		return t.MaxResponseHeaderSize
	}
	return 10 << 20 // net/http's default
}

// readResponse reads a response by net/http, as net/http's own transport does: it passes
// provisional responses to the request's trace.
func (a *attempt) readResponse(r *http.Request, headLimit int64) (*http.Response, error) {
	head := &io.LimitedReader{R: io.MultiReader(bytes.NewReader(a.read), a.conn), N: headLimit}
	from := bufio.NewReader(head)
	trace := httptrace.ContextClientTrace(r.Context())
	for {
		response, err := http.ReadResponse(from, r)
		if err != nil {
			if head.N <= 0 {
				err = fmt.Errorf("net/http: server response headers exceeded %d bytes; aborted", headLimit)
			}
			return nil, err
		}
		status := response.StatusCode
		if status >= 200 || status == http.StatusSwitchingProtocols {
			head.N = 1<<63 - 1 // the body is not limited
			response.Body = &attemptBody{ReadCloser: response.Body, attempt: a, response: response, from: from}
			return response, nil
		}
		if trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(status, textproto.MIMEHeader(response.Header)); err != nil {
				return nil, err
			}
			head.N = headLimit
		}
	}
}

// attemptBody is the body of a response that was left to reverse_proxy. If all of the body
// has been read, its connection is kept.
type attemptBody struct {
	io.ReadCloser
	*attempt
	response *http.Response
	from     *bufio.Reader
	done     bool
}

func (b *attemptBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	if gone := context.Cause(b.response.Request.Context()); gone != nil && !errors.Is(err, io.EOF) {
		err = gone
	}
	if err == io.EOF && b.response.ContentLength < 0 {
		b.head.wait()
	}
	b.finish(err == io.EOF && !b.response.Close && b.from.Buffered() == 0)
	return n, err
}

func (b *attemptBody) Close() error {
	b.finish(false)
	return nil
}

func (b *attemptBody) finish(keep bool) {
	if b.done {
		return
	}
	b.done = true
	if keep && b.conn.unwatched() {
		b.upstream.keep(b.conn)
		return
	}
	b.conn.discard()
}
