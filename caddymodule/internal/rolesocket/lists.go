package rolesocket

import (
	"net/http"
	"net/url"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

func (r *Role) status(w http.ResponseWriter, q request) error {
	return answer(w, narrow(q.status, r.segment))
}

func (r *Role) events(w http.ResponseWriter, q request) error {
	var all map[string][]journal.Event
	if err := r.read(q, api.EventsPath, nil, &all); err != nil {
		return err
	}
	return answer(w, map[string][]journal.Event{"events": narrowEvents(all["events"], r.segment)})
}

func (r *Role) history(w http.ResponseWriter, q request) error {
	var all vnicbridge.History
	if err := r.read(q, api.HistoryPath, nil, &all); err != nil {
		return err
	}
	return answer(w, narrowHistory(all, r.segment))
}

func (r *Role) flows(w http.ResponseWriter, q request) error {
	var list flowlist.List
	if err := r.list(q, api.FlowsPath, &list); err != nil {
		return err
	}
	for i, f := range list.Flows {
		list.Flows[i] = narrowFlow(f, r.segment)
	}
	return answer(w, list)
}

func (r *Role) clients(w http.ResponseWriter, q request) error {
	var list flowlist.ClientList
	if err := r.list(q, api.ClientsPath, &list); err != nil {
		return err
	}
	list.Clients = narrowClients(list.Clients, q.status, r.segment)
	return answer(w, list)
}

// list reads a list of the segment's flows. There is one list at a time.
func (r *Role) list(q request, path string, into any) error {
	query, err := r.ownFlows(q)
	if err != nil {
		return err
	}
	select {
	case r.lists <- struct{}{}:
		defer func() { <-r.lists }()
	case <-q.Done():
		return q.Err()
	}
	return r.read(q, path, query, into)
}

// ownFlows returns the parameters of a list as those of the segment's flows. A bridge or a name that
// is not the segment's is unknown here, because the instance would list those that it knows.
func (r *Role) ownFlows(q request) (url.Values, error) {
	if err := r.wantOwn(q, "segment", r.segment); err != nil {
		return nil, err
	}
	own := narrow(q.status, r.segment)
	if bridge := q.query.Get("bridge"); bridge != "" {
		if _, ok := own.Bridges[bridge]; !ok {
			return nil, refuse(http.StatusBadRequest, "unknown bridge %q: no such bridge leads to segment %s", bridge, r.segment)
		}
	}
	if name := q.query.Get("name"); name != "" && !chosenByName(own, name) {
		return nil, refuse(http.StatusBadRequest, "name %s: no steer rule to segment %s has this first name", name, r.segment)
	}
	query := q.query
	query.Set("segment", r.segment)
	return query, nil
}

func chosenByName(own api.Status, name string) bool {
	for _, bridge := range own.Bridges {
		for _, rule := range bridge.Steer {
			if firstName(rule) == name {
				return true
			}
		}
	}
	return false
}

// wantOwn refuses a parameter that has a value which is none of some.
func (r *Role) wantOwn(q request, parameter string, own ...string) error {
	value := q.query.Get(parameter)
	if !q.query.Has(parameter) {
		return nil
	}
	for _, o := range own {
		if value == o {
			return nil
		}
	}
	return refuse(http.StatusForbidden, "refused: this socket is for segment %s alone, and %s is %q", r.segment, parameter, value)
}
