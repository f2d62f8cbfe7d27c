package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// switchRequest is the body of POST /vnic/bridges/<bridge>/switch.
type switchRequest struct {
	Segment string `json:"segment"`         // one of the bridge's lb_policy
	Flows   bool   `json:"flows,omitempty"` // UDP and echo flows choose again
}

// drainRequest is the body of POST /vnic/segments/<segment>/drain, which may be missing.
type drainRequest struct {
	Flows bool `json:"flows,omitempty"` // the same
}

// weightRequest is the body of POST /vnic/segments/<segment>/weight.
type weightRequest struct {
	Weight int `json:"weight"` // 1 to vnicbridge.MaxWeight
}

func switchBridge(r *http.Request, bridge string) error {
	var want switchRequest
	if err := decode(r, &want, `{"segment": "b"}`); err != nil {
		return err
	}
	if want.Segment == "" {
		return badRequest(errors.New("segment is missing: to let lb_policy choose again, use DELETE"))
	}
	if err := plane.Switch(bridge, want.Segment); err != nil || !want.Flows {
		return err
	}
	return plane.SwitchFlows(bridge)
}

func switchBack(_ *http.Request, bridge string) error { return plane.Switch(bridge, "") }

func setWeight(r *http.Request, segment string) error {
	var want weightRequest
	if err := decode(r, &want, `{"weight": 3}`); err != nil {
		return err
	}
	if want.Weight == 0 {
		return badRequest(errors.New("weight is missing or 0: drain the segment to give it no flows, and use DELETE to let the configuration's weight hold again"))
	}
	return plane.SetWeight(segment, want.Weight)
}

func resetWeight(_ *http.Request, segment string) error { return plane.SetWeight(segment, 0) }

// maxBody is how many bytes of a request's body are read.
const maxBody = 4096

// decode reads the body of a request.
func decode(r *http.Request, into any, example string) error {
	body := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	body.DisallowUnknownFields()
	if err := body.Decode(into); err != nil {
		return badRequest(fmt.Errorf("reading the body, which is JSON such as %s: %w", example, err))
	}
	return nil
}
