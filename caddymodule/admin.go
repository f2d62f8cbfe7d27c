package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(adminAPI{}) }

// adminAPI adds the data plane to Caddy's admin API:
//
//	GET /vnic/status    a vnicbridge.Status
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
	return []caddy.AdminRoute{{Pattern: "/vnic/status", Handler: caddy.AdminHandlerFunc(serveStatus)}}
}

func serveStatus(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed: use GET")}
	}
	if !living.any() {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errors.New("the running configuration has no vnic app")}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(plane.Status())
}

var _ caddy.AdminRouter = adminAPI{}
