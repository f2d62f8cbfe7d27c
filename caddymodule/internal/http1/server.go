// Package http1 serves what is plain of HTTP/1.1 in the place of net/http's server,
// at a fraction of its cost: requests without a body that come whole, and responses
// of a known length. The handler is the same, and so are the bytes.
//
// It never decides about what is unusual. A connection whose request is not plain
// beyond doubt goes on to net/http with what has been read of it, and net/http takes
// over a response that turns out not to be.
package http1

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// Serve has the plain HTTP listeners of a server, as far as they are of package
// sites, served by this package from their second connection on. It is for modules
// that are being provisioned.
//
// A server with listener wrappers stays net/http's. A wrapper may let one connection
// through unwrapped and must see the next one nevertheless: proxy_protocol does so for
// clients that its policy skips.
func Serve(of *caddyhttp.Server) {
	if hasWrappers(of) {
		return
	}
	of.RegisterConnContext(adopt)
	of.RegisterOnStop(drainAll)
}

// hasWrappers tells whether a server has listener wrappers. Caddy keeps them in a field
// that is not exported; if there is no such field, the server may have some.
func hasWrappers(of *caddyhttp.Server) bool {
	loaded := reflect.ValueOf(of).Elem().FieldByName("listenerWrappers")
	return of.ListenerWrappersRaw != nil || loaded.Kind() != reflect.Slice || loaded.Len() > 0
}

// adopt begins to serve the listener that a connection has come from. If there is
// something between (TLS) the connection is of another type, and remains net/http's.
func adopt(ctx context.Context, c net.Conn) context.Context {
	standard, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	if ok && isPlain(standard) {
		sites.Divert(c, func() func(*sites.Conn) bool { return newServer(standard).serve })
	}
	return ctx
}

// heeded are the fields of an http.Server that this package heeds, or that mean nothing to
// a plain connection.
const heeded = "Addr Handler DisableGeneralOptionsHandler TLSConfig ReadHeaderTimeout IdleTimeout MaxHeaderBytes " +
	"TLSNextProto ConnState ErrorLog ConnContext HTTP2 Protocols"

// isPlain tells whether a server has no other field set: one that this package does not
// heed, such as WriteTimeout, or does not know, as net/http may get more.
func isPlain(standard *http.Server) bool {
	v, names := reflect.ValueOf(standard).Elem(), strings.Fields(heeded)
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.IsExported() && !v.Field(i).IsZero() && !slices.Contains(names, field.Name) {
			return false
		}
	}
	return true
}

// server serves the connections of one listener.
type server struct {
	standard *http.Server // net/http's, whose listener it is
	full     *full

	closing atomic.Bool
	mu      sync.Mutex
	conns   map[*conn]struct{}
	ended   chan struct{} // closed when it is closing, and no connection is left
}

// living are the servers that have not ended.
var living sync.Map

func newServer(standard *http.Server) *server {
	s := &server{standard: standard, conns: make(map[*conn]struct{}), ended: make(chan struct{})}
	s.full = newFull(s)
	living.Store(s, nil)
	standard.RegisterOnShutdown(s.shutdown)
	return s
}

// drainAll waits for the responses that are being written, also of earlier
// configurations, before the process exits.
func drainAll(ctx context.Context) (err error) {
	if !caddy.Exiting() {
		return nil
	}
	living.Range(func(s, _ any) bool {
		s.(*server).close()
		err = s.(*server).drain(ctx)
		return err == nil
	})
	return err
}

// shutdown ends the server when its last response has been written.
func (s *server) shutdown() {
	s.close()
	_ = s.drain(context.Background()) // which does not end
	living.Delete(s)
}

// close closes the connections that wait for a request; the others close after their
// response.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Swap(true) {
		return
	}
	s.full.server.SetKeepAlivesEnabled(false)
	for c := range s.conns {
		c.dismiss()
	}
	s.endIfEmpty()
}

// drain waits until no connection is left.
func (s *server) drain(ctx context.Context) error {
	select {
	case <-s.ended:
		return s.full.server.Shutdown(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// add adds a connection, unless the server is closing.
func (s *server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.conns[c]; there { // it may have been hijacked
		delete(s.conns, c)
		s.endIfEmpty()
	}
}

func (s *server) endIfEmpty() {
	if s.closing.Load() && len(s.conns) == 0 {
		close(s.ended)
	}
}

// connContext is the context of a connection, as the server has it.
func (s *server) connContext(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, http.ServerContextKey, s.standard)
	if s.standard.ConnContext != nil {
		ctx = s.standard.ConnContext(ctx, c)
	}
	return ctx
}

func (s *server) setState(c net.Conn, state http.ConnState) {
	if s.standard.ConnState != nil {
		s.standard.ConnState(c, state)
	}
}
