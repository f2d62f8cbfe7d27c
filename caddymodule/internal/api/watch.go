package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// WatchProtocol is what a client of WatchPath asks to upgrade its connection to.
const WatchProtocol = "caddy-vnic-watch"

// MaxWatch is how long a watch lasts. The next request comes on a new connection, to which Caddy
// applies its access rules of that time.
const MaxWatch = 10 * time.Minute

// serveWatch serves GET /vnic/watch: it makes the connection one on which a program reads again and
// again. It takes the GET requests that only read, as the admin API itself would.
//
// Caddy logs each request to the admin API at level info. A page that looks every two seconds would
// fill the log with lines about nothing that anybody has done. Of a watch, Caddy logs the first
// request.
func (a *API) serveWatch(w http.ResponseWriter, r *http.Request) error {
	if err := a.require(w, r, http.MethodGet); err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), WatchProtocol) {
		w.Header().Set("Upgrade", WatchProtocol)
		return caddy.APIError{HTTPStatus: http.StatusUpgradeRequired, Err: errors.New("want a connection for repeated reading: Upgrade: " + WatchProtocol)}
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return badRequest(fmt.Errorf("this connection cannot be upgraded: %w", err))
	}
	if buffered.Reader.Buffered() > 0 { // a request before the answer to this one
		return conn.Close()
	}
	_ = conn.SetDeadline(time.Time{}) // the admin endpoint's are for one request
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+WatchProtocol+"\r\n\r\n"); err != nil {
		return conn.Close()
	}
	server := &http.Server{Handler: a.watch(time.Now().Add(MaxWatch)), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	_ = server.Serve(&oneConn{Conn: conn}) // it returns when the only connection has been accepted
	return nil
}

// watch answers the requests of a watch, which lasts until a time.
func (a *API) watch(until time.Time) http.Handler {
	reads := map[string]caddy.AdminHandlerFunc{
		StatusPath: a.serveStatus, FlowsPath: a.serveFlows, ClientsPath: a.serveClients,
		EventsPath: a.serveEvents, HistoryPath: a.serveHistory, BansPath: a.serveBans,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if time.Now().After(until) || a.shared.Plane.Yielded() {
			w.Header().Set("Connection", "close")
		}
		err := notFound(fmt.Errorf("a watch is for GET requests to %s", names(reads)))
		if serve := reads[r.URL.Path]; serve != nil && r.Method == http.MethodGet {
			err = serve(w, r)
		}
		refused := caddy.APIError{HTTPStatus: http.StatusInternalServerError}
		if err == nil {
			return
		}
		errors.As(err, &refused)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(refused.HTTPStatus)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
	})
}

// oneConn is a listener with a single connection.
type oneConn struct {
	net.Conn
	accepted bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.accepted {
		return nil, io.EOF
	}
	l.accepted = true
	return l.Conn, nil
}

func (l *oneConn) Addr() net.Addr { return l.LocalAddr() }

// Close leaves the connection open, which the server closes.
func (l *oneConn) Close() error { return nil }
