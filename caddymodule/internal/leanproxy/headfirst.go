package leanproxy

import (
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// headFirst writes a response that is left to reverse_proxy. It tells the response's body
// when the head has been sent.
//
// If the length is unknown, a timer of reverse_proxy's flushes the head while the body is
// read. In stock Caddy the timer comes first if the first read finds the end of the body,
// because net/http's transport then waits for another goroutine. An attempt has no such
// goroutine, so its body waits for the flush. Otherwise net/http's server would give the
// response a length or a type that it does not have in stock Caddy.
type headFirst struct {
	*caddyhttp.ResponseWriterWrapper
	once sync.Once
	sent chan struct{} // closed when the head has been sent
}

func newHeadFirst(w http.ResponseWriter) *headFirst {
	return &headFirst{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, sent: make(chan struct{})}
}

// FlushError flushes what has been written.
func (h *headFirst) FlushError() error {
	defer h.once.Do(func() { close(h.sent) })
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// wait waits for the head. If Caddy does not flush the head, wait costs a moment but not the
// response.
func (h *headFirst) wait() {
	select {
	case <-h.sent:
	case <-time.After(brief):
	}
}
