package api

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// operation acts on one segment or bridge while the others go on. The key is the request's
// method.
type operation map[string]func(r *http.Request, name string) error

// serveSegments serves /vnic/segments/<segment>/<operation>.
func (a *API) serveSegments(w http.ResponseWriter, r *http.Request) error {
	return a.operate(w, r, SegmentsPath, map[string]operation{
		"drain": {http.MethodPost: a.drainSegment}, "activate": {http.MethodPost: a.startSegment},
		"stop": {http.MethodPost: a.stopSegment}, "start": {http.MethodPost: a.startSegment},
		"weight": {http.MethodPost: a.setWeight, http.MethodDelete: a.resetWeight},
	}, func(name string) error {
		return known(a.shared.Plane.Status().Segments, name, config.UnknownSegment)
	})
}

// serveBridges serves /vnic/bridges/<bridge>/<operation>.
func (a *API) serveBridges(w http.ResponseWriter, r *http.Request) error {
	return a.operate(w, r, BridgesPath, map[string]operation{
		"drain": {http.MethodPost: a.drainBridge}, "activate": {http.MethodPost: a.activateBridge},
		"switch": {http.MethodPost: a.switchBridge, http.MethodDelete: a.switchBack},
	}, func(name string) error {
		return known(a.shared.Plane.Status().Bridges, name, config.UnknownBridge)
	})
}

// operate serves <prefix><name>/<operation>.
func (a *API) operate(w http.ResponseWriter, r *http.Request, prefix string, operations map[string]operation, exists func(name string) error) error {
	name, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, prefix), "/")
	methods, ok := operations[what]
	if !ok {
		return notFound(fmt.Errorf("unknown operation %q: want %s<name>/<operation>, where the operation is one of %s", what, prefix, names(operations)))
	}
	if err := a.require(w, r, slices.Sorted(maps.Keys(methods))...); err != nil {
		return err
	}
	a.operating.Lock()
	defer a.operating.Unlock()
	if err := exists(name); err != nil {
		return notFound(err)
	}
	err := methods[r.Method](r, name)
	a.shared.Keep()
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) {
		return badRequest(wrong)
	}
	return err
}

// known returns an error if nothing has this name.
func known[T any](all map[string]T, name string, unknown func(name string, known []string) error) error {
	if _, ok := all[name]; !ok {
		return unknown(name, slices.Sorted(maps.Keys(all)))
	}
	return nil
}

func names[T any](all map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(all)), ", ")
}

// DrainRequest is the body of POST /vnic/segments/<segment>/drain. The body may be missing.
type DrainRequest struct {
	Flows bool `json:"flows,omitempty"` // UDP and echo flows choose again
}

func (a *API) drainSegment(r *http.Request, segment string) error {
	var want DrainRequest
	if r.ContentLength != 0 {
		if err := decode(r, &want, `{"flows": true}`); err != nil {
			return err
		}
	}
	plane := a.shared.Plane
	if plane.State(segment) == config.Stopped {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: fmt.Errorf("segment %s is stopped and has nothing to drain: start it first", segment)}
	}
	if err := plane.SetState(segment, config.Draining); err != nil {
		return err
	}
	a.shared.Sockets.Drain(segment)
	a.shared.CloseIdle(segment)
	if !want.Flows {
		return nil
	}
	return plane.DrainFlows(segment)
}

// stopSegment stops new flows before it closes the listeners, so that no client of the
// bridge meets a closed port.
func (a *API) stopSegment(_ *http.Request, segment string) error {
	if err := a.shared.Plane.SetState(segment, config.Stopped); err != nil {
		return err
	}
	a.shared.Sockets.Stop(segment)
	a.shared.CloseIdle(segment)
	return nil
}

func (a *API) startSegment(r *http.Request, segment string) error {
	if err := a.shared.Sockets.Start(r.Context(), segment); err != nil {
		return fmt.Errorf("segment %s stays stopped: %w", segment, err)
	}
	return a.shared.Plane.SetState(segment, config.Active)
}

// WeightRequest is the body of POST /vnic/segments/<segment>/weight.
type WeightRequest struct {
	Weight int `json:"weight"` // 1 to vnicbridge.MaxWeight
}

func (a *API) setWeight(r *http.Request, segment string) error {
	var want WeightRequest
	if err := decode(r, &want, `{"weight": 3}`); err != nil {
		return err
	}
	if want.Weight == 0 {
		return badRequest(errors.New("weight is missing or 0: to give the segment no flows, drain the segment; to return to the configuration's weight, use DELETE"))
	}
	return a.shared.Plane.SetWeight(segment, want.Weight)
}

func (a *API) resetWeight(_ *http.Request, segment string) error {
	return a.shared.Plane.SetWeight(segment, 0)
}

// SwitchRequest is the body of POST /vnic/bridges/<bridge>/switch.
type SwitchRequest struct {
	Segment string `json:"segment"`         // one of the bridge's lb_policy
	Flows   bool   `json:"flows,omitempty"` // UDP and echo flows choose again
}

func (a *API) switchBridge(r *http.Request, bridge string) error {
	var want SwitchRequest
	if err := decode(r, &want, `{"segment": "b"}`); err != nil {
		return err
	}
	if want.Segment == "" {
		return badRequest(errors.New("segment is missing: to let lb_policy choose again, use DELETE"))
	}
	plane := a.shared.Plane
	if err := plane.Switch(bridge, want.Segment); err != nil || !want.Flows {
		return err
	}
	return plane.SwitchFlows(bridge)
}

func (a *API) switchBack(_ *http.Request, bridge string) error {
	return a.shared.Plane.Switch(bridge, "")
}

func (a *API) drainBridge(_ *http.Request, bridge string) error {
	return a.shared.Plane.DrainBridge(bridge, true)
}

func (a *API) activateBridge(_ *http.Request, bridge string) error {
	return a.shared.Plane.DrainBridge(bridge, false)
}
