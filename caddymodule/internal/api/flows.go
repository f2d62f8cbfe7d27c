package api

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// serveFlows serves GET /vnic/flows.
func (a *API) serveFlows(w http.ResponseWriter, r *http.Request) error {
	return serveList(a, w, r, a.shared.Plane.Flows)
}

// serveClients serves GET /vnic/clients.
func (a *API) serveClients(w http.ResponseWriter, r *http.Request) error {
	return serveList(a, w, r, a.shared.Plane.Clients)
}

// serveList serves a list of the flows that match the request's parameters.
func serveList[L any](a *API, w http.ResponseWriter, r *http.Request, list func(flowlist.Filter) (L, error)) error {
	if err := a.require(w, r, http.MethodGet); err != nil {
		return err
	}
	filter, err := FlowParameters.parse(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	listed, err := list(filter)
	if err != nil {
		return badRequest(err)
	}
	return answer(w, listed)
}

// FlowParameters are the query parameters of GET /vnic/flows and /vnic/clients.
var FlowParameters = Parameters[flowlist.Filter]{
	"client": {"Only flows that this address opened, or one of this network, as in 10.20.0.0/16 or 2001:db8::/64", func(f *flowlist.Filter, text string) (err error) {
		f.Client, err = config.ParseClient(text)
		return err
	}},
	"segment": {"Only flows of this segment", func(f *flowlist.Filter, text string) error {
		f.Segment = text
		return nil
	}},
	"bridge": {"Only flows by way of this bridge", func(f *flowlist.Filter, text string) error {
		f.Bridge = text
		return nil
	}},
	"name": {"Only flows whose segment the steer rule with this first name has chosen", func(f *flowlist.Filter, text string) error {
		f.Name = text
		return nil
	}},
	"state": {"Only flows in this state: half_open, established or closing", func(f *flowlist.Filter, text string) error {
		f.State = flowlist.State(text)
		return nil
	}},
	"protocol": {"Only flows of this protocol: tcp, udp or icmp", func(f *flowlist.Filter, text string) error {
		return f.Protocol.UnmarshalText([]byte(text))
	}},
	"limit": {"The most flows that are listed, 1 to 10000 (default 100)", func(f *flowlist.Filter, text string) (err error) {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 {
			return fmt.Errorf("limit %q: want 1 to %d", text, flowlist.MaxLimit)
		}
		return nil
	}},
}
