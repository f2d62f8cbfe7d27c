// Package api serves the data plane's part of Caddy's admin API, and says what its
// requests carry.
package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/version"
	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// The paths of the routes. What ends with a slash is a prefix.
const (
	StatusPath   = "/vnic/status"
	FlowsPath    = "/vnic/flows"
	ClientsPath  = "/vnic/clients"
	EventsPath   = "/vnic/events"
	HistoryPath  = "/vnic/history"
	CapturePath  = "/vnic/capture"
	BansPath     = "/vnic/bans"
	SegmentsPath = "/vnic/segments/"
	BridgesPath  = "/vnic/bridges/"
	UpgradePath  = "/vnic/upgrade"
	WatchPath    = "/vnic/watch"
)

// Shared is what the routes show and operate. All configurations share it, because Caddy
// makes admin routes before apps, and keeps the routes of a configuration that failed to
// load.
type Shared struct {
	Plane   *vnicbridge.Plane
	Sockets *sites.Sockets
	Journal *journal.Journal

	// Running tells whether a configuration with segments is in force.
	Running func() bool

	// CloseIdle closes the idle connections from fronts to the servers of a segment, until
	// the segment is active again.
	CloseIdle func(segment string)

	// Upgrade gives this process's place to a successor with a configuration in JSON, and returns
	// the successor's process id.
	Upgrade func(config []byte) (pid int, err error)

	// Keep lets the next process know at once what has been changed, if it takes over from this one.
	Keep func()

	// Restart says what a restart of Caddy's service does: see [Status].
	Restart func() string
}

// API adds the data plane to Caddy's admin API:
//
//	GET /vnic/status    a [Status]
//	GET /vnic/flows     a vnicbridge.FlowList; see FlowParameters
//	GET /vnic/clients   a vnicbridge.ClientList; the same parameters
//	GET /vnic/events    the last events, a list of journal.Event
//	GET /vnic/history   a vnicbridge.History
//	GET /vnic/capture   a pcapng file; see CaptureParameters
//	GET, POST, DELETE /vnic/bans
//	POST /vnic/segments/<segment>/drain|activate|stop|start
//	POST, DELETE /vnic/segments/<segment>/weight
//	POST /vnic/bridges/<bridge>/drain|activate
//	POST, DELETE /vnic/bridges/<bridge>/switch
//	POST /vnic/upgrade  an [Upgraded]; the body is the successor's configuration
//	GET /vnic/watch     a connection for repeated reading; see WatchProtocol
type API struct {
	shared    Shared
	operating sync.Mutex // one operation is complete before the next begins
}

// New returns the routes for what is shared.
func New(shared Shared) *API { return &API{shared: shared} }

// CaddyModule returns the Caddy module information.
func (a *API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.vnic", New: func() caddy.Module { return a }}
}

// Routes returns the routes.
func (a *API) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: StatusPath, Handler: caddy.AdminHandlerFunc(a.serveStatus)},
		{Pattern: FlowsPath, Handler: caddy.AdminHandlerFunc(a.serveFlows)},
		{Pattern: ClientsPath, Handler: caddy.AdminHandlerFunc(a.serveClients)},
		{Pattern: EventsPath, Handler: caddy.AdminHandlerFunc(a.serveEvents)},
		{Pattern: HistoryPath, Handler: caddy.AdminHandlerFunc(a.serveHistory)},
		{Pattern: CapturePath, Handler: caddy.AdminHandlerFunc(a.serveCapture)},
		{Pattern: BansPath, Handler: caddy.AdminHandlerFunc(a.serveBans)},
		{Pattern: SegmentsPath, Handler: caddy.AdminHandlerFunc(a.serveSegments)},
		{Pattern: BridgesPath, Handler: caddy.AdminHandlerFunc(a.serveBridges)},
		{Pattern: UpgradePath, Handler: caddy.AdminHandlerFunc(a.serveUpgrade)},
		{Pattern: WatchPath, Handler: caddy.AdminHandlerFunc(a.serveWatch)},
	}
}

// Status is the status of the data plane, and the version of the program that runs it.
type Status struct {
	Version string `json:"version"`
	// Empty: no service manager keeps files. Otherwise "kept", or why a restart interrupts connections
	// although the service manager could keep files.
	Restart string `json:"restart,omitempty"`
	// The only segment that this status is about, because whoever asks may see no other.
	Role string `json:"role,omitempty"`
	vnicbridge.Status
}

// serveStatus serves GET /vnic/status.
func (a *API) serveStatus(w http.ResponseWriter, r *http.Request) error {
	if err := a.require(w, r, http.MethodGet); err != nil {
		return err
	}
	return answer(w, Status{Version: version.Ours(), Restart: a.shared.Restart(), Status: a.shared.Plane.Status()})
}

// serveEvents serves GET /vnic/events.
func (a *API) serveEvents(w http.ResponseWriter, r *http.Request) error {
	if err := a.require(w, r, http.MethodGet); err != nil {
		return err
	}
	return answer(w, map[string][]journal.Event{"events": a.shared.Journal.List()})
}

// serveHistory serves GET /vnic/history.
func (a *API) serveHistory(w http.ResponseWriter, r *http.Request) error {
	if err := a.require(w, r, http.MethodGet); err != nil {
		return err
	}
	return answer(w, a.shared.Plane.History())
}

// require refuses other methods, and all methods before there are segments.
func (a *API) require(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if !slices.Contains(methods, r.Method) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed: use " + strings.Join(methods, " or "))}
	}
	if a.shared.Plane.Yielded() {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: vnicbridge.ErrYielded}
	}
	if !a.shared.Running() {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errors.New("the running configuration has no vnic app")}
	}
	return nil
}

func answer(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}

// maxBody is how many bytes of a request's body are read at most: as many bans as there can be.
const maxBody = 16 << 20

// decode reads the body of a request.
func decode(r *http.Request, into any, example string) error {
	body := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	body.DisallowUnknownFields()
	if err := body.Decode(into); err != nil {
		return badRequest(fmt.Errorf("reading the body, which is JSON such as %s: %w", example, err))
	}
	return nil
}

func notFound(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
}

func badRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

var _ caddy.AdminRouter = (*API)(nil)
