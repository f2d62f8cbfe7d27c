package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

// Upgraded is the answer to POST /vnic/upgrade.
type Upgraded struct {
	PID int `json:"pid"` // of the process that has taken over
}

// serveUpgrade serves POST /vnic/upgrade. The body is the configuration with which the successor
// starts, in JSON. Without a body, the successor reads the one that its command line names.
func (a *API) serveUpgrade(w http.ResponseWriter, r *http.Request) error {
	if err := a.require(w, r, http.MethodPost); err != nil {
		return err
	}
	config, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return badRequest(fmt.Errorf("reading the configuration: %w", err))
	}
	if len(config) > 0 && !json.Valid(config) {
		return badRequest(errors.New("the body is no JSON: want the configuration, as GET /config/ gives it, or nothing"))
	}
	a.operating.Lock()
	defer a.operating.Unlock()
	pid, err := a.shared.Upgrade(config)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	}
	return answer(w, Upgraded{pid})
}
