// Package http1 serves plain HTTP/1.1 instead of net/http's server, at a fraction of the
// cost: requests without a body that come whole, and responses of a known length. The
// handler is the same, and so are the bytes.
//
// The package never decides about what is unusual. If a request is not plain beyond doubt,
// its connection goes to net/http, together with the bytes that have been read. If a
// response turns out not to be plain, net/http takes it over.
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

// Serve lets this package serve the plain HTTP listeners of a server, from the second
// connection of each listener on. The listeners must be those of package sites. A module
// calls Serve from its Provision.
//
// A server with listener wrappers stays net/http's. A wrapper can let one connection through
// unwrapped and must still see the next one: proxy_protocol does so for clients that its
// policy skips.
func Serve(of *caddyhttp.Server) {
	if hasWrappers(of) {
		return
	}
	of.RegisterConnContext(adopt)
	of.RegisterOnStop(drainAll)
}

// hasWrappers tells whether a server has listener wrappers. Caddy keeps them in an
// unexported field. If the field is missing, hasWrappers assumes that there are some.
func hasWrappers(of *caddyhttp.Server) bool {
	loaded := reflect.ValueOf(of).Elem().FieldByName("listenerWrappers")
	return of.ListenerWrappersRaw != nil || loaded.Kind() != reflect.Slice || loaded.Len() > 0
}

// adopt begins to serve the listener that a connection has come from. With something
// between, such as TLS, the connection has another type and stays net/http's.
func adopt(ctx context.Context, c net.Conn) context.Context {
	if standard, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok {
		sites.Divert(c, func() func(*sites.Conn) bool {
			if !isPlain(standard) {
				return nil
			}
			return newServer(standard).serve
		})
	}
	return ctx
}

// heeded are the fields of an http.Server that this package obeys, or that do not matter to
// a plain connection.
const heeded = "Addr Handler DisableGeneralOptionsHandler TLSConfig ReadHeaderTimeout IdleTimeout MaxHeaderBytes " +
	"TLSNextProto ConnState ErrorLog ConnContext HTTP2 Protocols"

// isPlain tells whether only heeded fields of a server are set. Other fields are those that
// this package does not obey, such as WriteTimeout, and those that a later net/http adds.
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
	standard *http.Server // net/http's server, which owns the listener
	full     *full

	closing atomic.Bool
	mu      sync.Mutex
	conns   map[*conn]struct{}
	ended   chan struct{} // closed when the server is closing and no connection is left
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

// drainAll waits for unfinished responses before the process exits, also for those of
// earlier configurations.
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

// close leaves the connections that wait for a request to the next configuration's server.
// The others close after their responses.
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
	if _, there := s.conns[c]; there { // not if it was hijacked
		delete(s.conns, c)
		s.endIfEmpty()
	}
}

func (s *server) endIfEmpty() {
	if s.closing.Load() && len(s.conns) == 0 {
		close(s.ended)
	}
}

// connContext returns the context of a connection, as net/http's server would make it.
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
