package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// serveFlows serves GET /vnic/flows.
func serveFlows(w http.ResponseWriter, r *http.Request) error {
	return serveList(w, r, plane.Flows)
}

// serveClients serves GET /vnic/clients.
func serveClients(w http.ResponseWriter, r *http.Request) error {
	return serveList(w, r, plane.Clients)
}

// serveList serves what a list says of the flows that the request asks for.
func serveList[L any](w http.ResponseWriter, r *http.Request, list func(vnicbridge.FlowFilter) (L, error)) error {
	if err := require(w, r, http.MethodGet); err != nil {
		return err
	}
	filter, err := flowParameters.parse(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	listed, err := list(filter)
	if err != nil {
		return badRequest(err)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(listed)
}

// flowParameters are the query parameters of GET /vnic/flows and /vnic/clients, and the flags of the
// command.
var flowParameters = parameters[vnicbridge.FlowFilter]{
	"client": {"Only flows that this address opened, or one of this network, as in 10.20.0.0/16", func(f *vnicbridge.FlowFilter, text string) (err error) {
		f.Client, err = parseClient(text)
		return err
	}},
	"segment": {"Only flows of this segment", func(f *vnicbridge.FlowFilter, text string) error {
		f.Segment = text
		return nil
	}},
	"bridge": {"Only flows by way of this bridge", func(f *vnicbridge.FlowFilter, text string) error {
		f.Bridge = text
		return nil
	}},
	"state": {"Only flows in this state: half_open, established or closing", func(f *vnicbridge.FlowFilter, text string) error {
		f.State = vnicbridge.FlowState(text)
		return nil
	}},
	"protocol": {"Only flows of this protocol: tcp, udp or icmp", func(f *vnicbridge.FlowFilter, text string) error {
		return f.Protocol.UnmarshalText([]byte(text))
	}},
	"limit": {"The most flows that are listed, 1 to 10000 (default 100)", func(f *vnicbridge.FlowFilter, text string) (err error) {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 {
			return fmt.Errorf("limit %q: want 1 to %d", text, vnicbridge.MaxFlowLimit)
		}
		return nil
	}},
}
