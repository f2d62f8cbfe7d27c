// Package rolesocket serves the part of the admin API that concerns one segment, for those who
// administrate that segment and nothing else.
//
// Whoever may connect to Caddy's admin endpoint controls Caddy and all segments. A role stands between:
// it takes the requests of an allow-list, makes each of them anew, and makes the answers anew from
// what concerns the segment. Nothing that it does not know passes, in either direction.
package rolesocket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

// Role is a handler for the requests of one segment's administrators.
type Role struct {
	segment string
	watch   http.RoundTripper // for what only reads
	other   http.RoundTripper
	log     *slog.Logger
	routes  map[string]route // by method and path

	lists    chan struct{} // a list reads the flow table, which takes up to a second of a CPU
	captures chan struct{} // the instance has four for all
}

// route answers one kind of request. It has the query, which the route has named, the body, and what
// the instance says of itself.
type route struct {
	parameters []string
	serve      func(r *Role, w http.ResponseWriter, q request) error
}

// request is a request that is on the allow-list.
type request struct {
	context.Context
	method, path string
	query        url.Values
	body         []byte
	status       api.Status // the whole
}

var segmentName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// New returns a role for a segment. What it asks of the instance goes by watch, if it only reads, or
// else by other. What is done is logged, with who has done it.
func New(segment string, watch, other http.RoundTripper, log *slog.Logger) (*Role, error) {
	if !segmentName.MatchString(segment) {
		return nil, fmt.Errorf("segment %q: want letters, digits, _ and -", segment)
	}
	r := &Role{segment: segment, watch: watch, other: other, log: log, lists: make(chan struct{}, 1), captures: make(chan struct{}, 1)}
	lists := []string{"client", "segment", "bridge", "name", "state", "protocol", "limit"}
	r.routes = map[string]route{
		"GET " + api.StatusPath:  {nil, (*Role).status},
		"GET " + api.FlowsPath:   {lists, (*Role).flows},
		"GET " + api.ClientsPath: {lists, (*Role).clients},
		"GET " + api.EventsPath:  {nil, (*Role).events},
		"GET " + api.HistoryPath: {nil, (*Role).history},
		"GET " + api.CapturePath: {[]string{api.Captured, "filter", "client", "snaplen", "count", "duration"}, (*Role).capture},
		"GET " + api.BansPath:    {[]string{"limit", "segment"}, (*Role).bans},
		"POST " + api.BansPath:   {nil, (*Role).ban},
		"DELETE " + api.BansPath: {nil, (*Role).ban},
	}
	own := api.SegmentsPath + segment + "/"
	for _, operation := range []string{"activate", "stop", "start"} {
		r.routes["POST "+own+operation] = route{nil, (*Role).operate}
	}
	r.routes["POST "+own+"drain"] = route{nil, operateWith[api.DrainRequest]}
	r.routes["POST "+own+"weight"] = route{nil, operateWith[api.WeightRequest]}
	r.routes["DELETE "+own+"weight"] = route{nil, (*Role).operate}
	return r, nil
}

// maxBody is how many bytes a request's body may have.
const maxBody = 1 << 20

// ServeHTTP implements http.Handler.
func (r *Role) ServeHTTP(w http.ResponseWriter, asked *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := r.serve(w, asked); err != nil {
		status := http.StatusInternalServerError
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			status = refused.status
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
	}
}

func (r *Role) serve(w http.ResponseWriter, asked *http.Request) error {
	route, q, err := r.parse(asked.Method, asked.RequestURI)
	if err != nil {
		return err
	}
	if q.body, err = io.ReadAll(io.LimitReader(asked.Body, maxBody+1)); err != nil {
		return refuse(http.StatusBadRequest, "reading the body: %v", err)
	}
	if len(q.body) > maxBody {
		return refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", maxBody)
	}
	q.Context = asked.Context()
	if q.status, err = r.current(q.Context); err != nil {
		return err
	}
	if err = route.serve(r, w, q); asked.Method != http.MethodGet {
		r.log.Info("asked of the segment", "segment", r.segment, "method", q.method, "path", q.path, "body", string(q.body), "by", callerOf(asked.Context()), "outcome", outcome(err))
	}
	return err
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "done"
}

// parse finds the route of a request on the allow-list. It compares the request as it was sent: a path
// that is written in another way is another path.
func (r *Role) parse(method, uri string) (route, request, error) {
	path, raw, _ := strings.Cut(uri, "?")
	found, ok := r.routes[method+" "+path]
	if !ok {
		return found, request{}, refuse(http.StatusForbidden, "refused: this socket is for segment %s alone; it takes %s", r.segment, strings.Join(r.allowed(), ", "))
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return found, request{}, refuse(http.StatusBadRequest, "the query cannot be read: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(found.parameters, name) || len(values) != 1 {
			return found, request{}, refuse(http.StatusBadRequest, "unknown or repeated parameter %q: want one of each of [%s]", name, strings.Join(found.parameters, ", "))
		}
	}
	return found, request{method: method, path: path, query: query}, nil
}

// allowed lists the requests that there are.
func (r *Role) allowed() []string {
	all := make([]string, 0, len(r.routes))
	for request := range r.routes {
		all = append(all, request)
	}
	slices.Sort(all)
	return all
}

// refusal is an error with the status of the answer.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

func answer(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}
