package sites

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"sync"
)

// IsLeaving tells whether a segment is drained or stopped.
func (s *Sockets) IsLeaving(segment string) bool {
	_, leaving := s.idle.leaving.Load(segment)
	return leaving
}

// Leaving returns the segments that are drained or stopped, in no particular order.
func (s *Sockets) Leaving() (segments []string) {
	s.idle.leaving.Range(func(segment, _ any) bool {
		segments = append(segments, segment.(string))
		return true
	})
	return segments
}

// Leaving tells whether the connection shall end after its next response, because its
// segment is drained or stopped, or because the next configuration has taken over.
func (c *Conn) Leaving() bool {
	return c.listener.superseded.Load() && !c.diverted.Load() || c.listener.sockets.IsLeaving(c.listener.at.Segment)
}

// connKey is the context key for the *Conn of a request.
type connKey struct{}

// wrapping guards the check whether a server's handler is already wrapped.
var wrapping sync.Mutex

// ConnContext is a hook for [http.Server.ConnContext]. With it, [Sockets.HandOver] knows
// which connections wait for a request. [Sockets.Drain] and [Sockets.Stop] close connections
// after their next response: they set "Connection: close", which net/http turns into a
// GOAWAY for HTTP/2.
//
// ConnContext wraps the server's handler before the handler gets its first request.
func (s *Sockets) ConnContext(ctx context.Context, c net.Conn) context.Context {
	if server, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok {
		wrapping.Lock()
		if _, wrapped := server.Handler.(leavingHandler); !wrapped {
			server.Handler = leavingHandler{cmp.Or[http.Handler](server.Handler, http.DefaultServeMux)}
		}
		wrapping.Unlock()
	}
	own := connOf(c)
	if own == nil {
		return ctx
	}
	s.watched.watch(own)
	return context.WithValue(ctx, connKey{}, own)
}

// leavingHandler ends the connections of leaving segments.
type leavingHandler struct{ http.Handler }

func (h leavingHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*Conn); ok {
		if r.ProtoMajor == 2 && !c.http2.Load() {
			c.http2.Store(true)
		}
		c.pending.Store(false)
		if !c.begun.Load() {
			c.begun.Store(true)
		}
		if c.Leaving() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
	}
	h.Handler.ServeHTTP(w, r)
}
