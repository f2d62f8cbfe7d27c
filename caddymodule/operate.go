package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// operation is what can be done to one segment or bridge while the others go on, by
// the method that asks for it.
type operation map[string]func(r *http.Request, name string) error

// operated are the things of a kind that have operations.
type operated struct {
	prefix     string // of the path
	operations map[string]operation
	names      func(vnicbridge.Status) []string
	unknown    func(name string, known []string) error
}

var operatedSegments = operated{
	prefix: segmentsPath,
	operations: map[string]operation{
		"drain": {http.MethodPost: drainSegment}, "activate": {http.MethodPost: startSegment},
		"stop": {http.MethodPost: stopSegment}, "start": {http.MethodPost: startSegment},
		"weight": {http.MethodPost: setWeight, http.MethodDelete: resetWeight},
	},
	names:   func(s vnicbridge.Status) []string { return sortedKeys(s.Segments) },
	unknown: vnicbridge.UnknownSegment,
}

var operatedBridges = operated{
	prefix: bridgesPath,
	operations: map[string]operation{
		"switch": {http.MethodPost: switchBridge, http.MethodDelete: switchBack},
	},
	names:   func(s vnicbridge.Status) []string { return sortedKeys(s.Bridges) },
	unknown: vnicbridge.UnknownBridge,
}

// operating lets one operation be complete before the next.
var operating sync.Mutex

// serve serves <prefix><name>/<operation>.
func (o operated) serve(w http.ResponseWriter, r *http.Request) error {
	name, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, o.prefix), "/")
	methods, ok := o.operations[what]
	if !ok {
		return notFound(fmt.Errorf("unknown operation %q: want %s<name>/<operation>, where the operation is one of %s", what, o.prefix, names(o.operations)))
	}
	if err := require(w, r, sortedKeys(methods)...); err != nil {
		return err
	}
	operating.Lock()
	defer operating.Unlock()
	if known := o.names(plane.Status()); !slices.Contains(known, name) {
		return notFound(o.unknown(name, known))
	}
	err := methods[r.Method](r, name)
	if wrong := (*vnicbridge.ConfigError)(nil); errors.As(err, &wrong) {
		return badRequest(wrong)
	}
	return err
}

func drainSegment(r *http.Request, segment string) error {
	var want drainRequest
	if r.ContentLength != 0 {
		if err := decode(r, &want, `{"flows": true}`); err != nil {
			return err
		}
	}
	if plane.State(segment) == vnicbridge.Stopped {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: fmt.Errorf("segment %s is stopped and has nothing to drain: start it first", segment)}
	}
	if err := plane.SetState(segment, vnicbridge.Draining); err != nil {
		return err
	}
	sockets.Drain(segment)
	proxies.closeIdle(segment)
	if !want.Flows {
		return nil
	}
	return plane.DrainFlows(segment)
}

// stopSegment keeps new flows away before the listeners close, so that no client
// of the bridge comes to a closed port.
func stopSegment(_ *http.Request, segment string) error {
	if err := plane.SetState(segment, vnicbridge.Stopped); err != nil {
		return err
	}
	sockets.Stop(segment)
	proxies.closeIdle(segment)
	return nil
}

func startSegment(r *http.Request, segment string) error {
	if err := sockets.Start(r.Context(), segment); err != nil {
		return fmt.Errorf("segment %s stays stopped: %w", segment, err)
	}
	return plane.SetState(segment, vnicbridge.Active)
}

func notFound(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
}

func badRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}
