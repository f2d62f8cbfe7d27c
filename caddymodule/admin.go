package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(adminAPI{}) }

const (
	statusPath   = "/vnic/status"
	flowsPath    = "/vnic/flows"
	clientsPath  = "/vnic/clients"
	eventsPath   = "/vnic/events"
	capturePath  = "/vnic/capture"
	segmentsPath = "/vnic/segments/"
	bridgesPath  = "/vnic/bridges/"
)

// adminAPI adds the data plane to Caddy's admin API:
//
//	GET /vnic/status    a vnicbridge.Status
//	GET /vnic/flows     a vnicbridge.FlowList; see flowParameters
//	GET /vnic/clients   a vnicbridge.ClientList; the same parameters
//	GET /vnic/events    the last events, a list of journalEvent
//	GET /vnic/capture   a pcapng file; see captureParameters
//	POST /vnic/segments/<segment>/drain|activate|stop|start
//	POST, DELETE /vnic/segments/<segment>/weight
//	POST, DELETE /vnic/bridges/<bridge>/switch
//
// It looks at what all configurations share only: Caddy makes admin routes before apps, and
// keeps those of a configuration that failed to load.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.vnic", New: func() caddy.Module { return adminAPI{} }}
}

// Routes returns the routes.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: statusPath, Handler: caddy.AdminHandlerFunc(serveStatus)},
		{Pattern: flowsPath, Handler: caddy.AdminHandlerFunc(serveFlows)},
		{Pattern: clientsPath, Handler: caddy.AdminHandlerFunc(serveClients)},
		{Pattern: eventsPath, Handler: caddy.AdminHandlerFunc(serveEvents)},
		{Pattern: capturePath, Handler: caddy.AdminHandlerFunc(serveCapture)},
		{Pattern: segmentsPath, Handler: caddy.AdminHandlerFunc(operatedSegments.serve)},
		{Pattern: bridgesPath, Handler: caddy.AdminHandlerFunc(operatedBridges.serve)},
	}
}

func serveStatus(w http.ResponseWriter, r *http.Request) error {
	if err := require(w, r, http.MethodGet); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(plane.Status())
}

// require refuses other methods, and any before there are segments.
func require(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if !slices.Contains(methods, r.Method) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed: use " + strings.Join(methods, " or "))}
	}
	if !living.any() {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errors.New("the running configuration has no vnic app")}
	}
	return nil
}

var _ caddy.AdminRouter = adminAPI{}
