package http1

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// answering is a server that holds back its responses to /held.
type answering struct {
	*http.Server
	held    chan *http.Request // requests whose responses wait
	release chan struct{}

	mu     sync.Mutex
	states map[net.Addr][]http.ConnState // of each client
}

func newAnswering() *answering {
	a := &answering{held: make(chan *http.Request, 10), release: make(chan struct{}), states: make(map[net.Addr][]http.ConnState)}
	a.Server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hijacked" {
				c, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					panic(err)
				}
				defer c.Close()
				a.held <- r
				<-a.release
				return
			}
			if r.URL.Path == "/held" {
				a.held <- r
				<-a.release
			}
			if r.URL.Path == "/gone" {
				a.held <- r
				<-r.Context().Done()
			}
			if r.URL.Path != "/chunks" {
				typed(w, 5)
			}
			io.WriteString(w, "hello")
		}),
		ConnState: func(c net.Conn, state http.ConnState) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.states[c.RemoteAddr()] = append(a.states[c.RemoteAddr()], state)
		},
	}
	return a
}

func (a *answering) statesOf(c net.Conn) []http.ConnState {
	a.mu.Lock()
	defer a.mu.Unlock()
	for client, states := range a.states {
		if client.String() == c.LocalAddr().String() {
			return slices.Clone(states)
		}
	}
	return nil
}

// client is a connection to a server.
type client struct {
	net.Conn
	*bufio.Reader
	t *testing.T
}

func dial(t *testing.T, to string) client {
	t.Helper()
	c := testsite.Dial(t, to)
	return client{c, bufio.NewReader(c), t}
}

func (c client) send(path string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads a response, and tells whether the server will close the connection.
func (c client) expect() (closing bool) {
	c.t.Helper()
	response, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "hello" {
		c.t.Fatal(string(body), err)
	}
	return response.Close
}

func (c client) expectEnd() {
	c.t.Helper()
	if b, err := c.ReadByte(); err != io.EOF {
		c.t.Errorf("%q, %v: the connection is still open", b, err)
	}
}

// TestClientGoesAway checks that the context of a request ends if its client goes away.
func TestClientGoesAway(t *testing.T) {
	a, at := newAnswering(), testsite.FreeAddress(t)
	startPlain(t, at, a.Server)
	c := dial(t, at)
	c.send("/gone")
	r := <-a.held
	c.Close()
	select {
	case <-r.Context().Done():
	case <-time.After(testsite.Patience):
		t.Error("the request goes on")
	}
}

// watches tells whether the server watches a client.
func (s *server) watches() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.watch.mu.Lock()
		reading := c.watch.reading
		c.watch.mu.Unlock()
		if reading != nil {
			return true
		}
	}
	return false
}

// TestSentAhead checks that what a client sends while its request is answered belongs to the
// next request.
func TestSentAhead(t *testing.T) {
	a, at := newAnswering(), testsite.FreeAddress(t)
	startPlain(t, at, a.Server)
	for _, second := range []string{"/length", "/chunks"} {
		c := dial(t, at)
		c.send("/held")
		<-a.held
		testsite.WaitFor(t, "the connection is watched", serverOf(t, a.Server).watches)
		c.send(second)
		a.release <- struct{}{}
		c.expect()
		c.expect()
		c.send("/length")
		c.expect()
	}
	c := dial(t, at) // at once
	io.WriteString(c.Conn, strings.Repeat("GET /length HTTP/1.1\r\nHost: localhost\r\n\r\n", 3))
	for range 3 {
		c.expect()
	}
}

// TestStates checks that a server's hooks are told the same about connections as by net/http.
func TestStates(t *testing.T) {
	a, at := newAnswering(), testsite.FreeAddress(t)
	startPlain(t, at, a.Server)
	c := dial(t, at)
	for range 2 {
		c.send("/length")
		c.expect()
	}
	c.Close()
	want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateIdle, http.StateClosed}
	testsite.WaitFor(t, "the connection is closed", func() bool { return len(a.statesOf(c.Conn)) == len(want) })
	if got := a.statesOf(c.Conn); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A server that shuts down finishes what it has begun, and leaves to its successor the
// connections that wait for a request, whether or not they have had one. Only idle ones of
// net/http close.
func TestShutdown(t *testing.T) {
	older, newer, at := newAnswering(), newAnswering(), testsite.FreeAddress(t)
	startPlain(t, at, older.Server)
	idle, busy, taken, fresh := dial(t, at), dial(t, at), dial(t, at), dial(t, at)
	idle.send("/length")
	idle.expect()
	taken.send("/chunks")
	taken.expect()
	busy.send("/held")
	<-older.held
	testsite.WaitFor(t, "the last connection has been accepted", func() bool { return len(older.statesOf(fresh.Conn)) > 0 })

	start(t, at, newer.Server)
	if err := older.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken.expectEnd()
	// A request that is sent before may still be the older server's.
	for what, c := range map[string]client{"idle connection": idle, "connection without a request": fresh} {
		testsite.WaitFor(t, "the successor has the "+what, func() bool { return len(newer.statesOf(c.Conn)) > 0 })
		c.send("/length")
		c.expect()
	}

	ours := serverOf(t, older.Server)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ours.drain(ctx); err == nil {
		t.Error("the server has drained with a response to write")
	}
	older.release <- struct{}{}
	if !busy.expect() {
		t.Error("the last response does not say that the connection closes")
	}
	busy.expectEnd()
	if err := ours.drain(t.Context()); err != nil {
		t.Error(err)
	}
	testsite.WaitFor(t, "the server is forgotten", func() bool { _, lives := living.Load(ours); return !lives })
}

// TestShutdownLeavesWhatIsHijacked checks that a server that shuts down does not wait for a
// connection that a handler has taken over, as for a WebSocket.
func TestShutdownLeavesWhatIsHijacked(t *testing.T) {
	a, at := newAnswering(), testsite.FreeAddress(t)
	startPlain(t, at, a.Server)
	dial(t, at).send("/hijacked")
	<-a.held
	defer close(a.release)
	ours := serverOf(t, a.Server)
	if err := a.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testsite.Patience)
	defer cancel()
	if err := ours.drain(ctx); err != nil {
		t.Error(err)
	}
}

func serverOf(t *testing.T, standard *http.Server) (found *server) {
	t.Helper()
	living.Range(func(s, _ any) bool {
		if s.(*server).standard == standard {
			found = s.(*server)
		}
		return found == nil
	})
	if found == nil {
		t.Fatal("the server's listener is not served here")
	}
	return found
}

// TestShutdownForGood checks that a server without a successor closes connections without a
// request.
func TestShutdownForGood(t *testing.T) {
	a, at := newAnswering(), testsite.FreeAddress(t)
	startPlain(t, at, a.Server)
	c := dial(t, at)
	testsite.WaitFor(t, "it has been accepted", func() bool { return len(a.statesOf(c.Conn)) > 0 })
	if err := a.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := c.ReadByte(); err == nil {
		t.Errorf("%q: the connection is still open", b)
	}
}

// TestUnencryptedHTTP2 checks that net/http serves HTTP/2 without TLS, from the first byte on.
func TestUnencryptedHTTP2(t *testing.T) {
	a, at := newAnswering(), testsite.FreeAddress(t)
	a.Protocols = new(http.Protocols)
	a.Protocols.SetHTTP1(true)
	a.Protocols.SetUnencryptedHTTP2(true)
	startPlain(t, at, a.Server)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	response, err := (&http.Client{Transport: transport}).Get("http://" + at)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	transport.CloseIdleConnections()
	if response.ProtoMajor != 2 {
		t.Errorf("the answer came over %s", response.Proto)
	}
}

// TestIdleTimeout checks that an idle connection is closed after the idle timeout.
func TestIdleTimeout(t *testing.T) {
	a, at := newAnswering(), testsite.FreeAddress(t)
	a.IdleTimeout = 100 * time.Millisecond
	startPlain(t, at, a.Server)
	c := dial(t, at)
	c.send("/length")
	c.expect()
	c.expectEnd()
}

// TestWrappersAreKnown checks that this package serves a server of Caddy's only if it has no
// listener wrappers.
func TestWrappersAreKnown(t *testing.T) {
	if hasWrappers(new(caddyhttp.Server)) {
		t.Error("a server without wrappers seems to have some: Caddy keeps them elsewhere")
	}
	if !hasWrappers(&caddyhttp.Server{ListenerWrappersRaw: []json.RawMessage{nil}}) {
		t.Error("wrappers that are not loaded yet are overlooked")
	}
}

// TestFieldsOfAServer checks that this package either obeys a field of http.Server, or leaves
// the server to net/http. Somebody must look at a new field before adding it to either list.
func TestFieldsOfAServer(t *testing.T) {
	unheeded := map[string]*http.Server{
		"ReadTimeout":  {ReadTimeout: time.Second},
		"WriteTimeout": {WriteTimeout: time.Second},
		"BaseContext":  {BaseContext: func(net.Listener) context.Context { return context.Background() }},
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[http.Server]()) {
		server, isUnheeded := unheeded[field.Name]
		if field.IsExported() && isUnheeded == slices.Contains(strings.Fields(heeded), field.Name) {
			t.Errorf("nobody has decided what %s means here", field.Name)
		}
		if isUnheeded && isPlain(server) {
			t.Errorf("a server with %s is served here", field.Name)
		}
	}
	if !isPlain(&http.Server{Handler: http.NotFoundHandler(), IdleTimeout: time.Second}) {
		t.Error("a plain server is not served here")
	}
}
