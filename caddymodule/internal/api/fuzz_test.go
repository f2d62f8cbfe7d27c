package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// FuzzAdmin checks that every request to the admin API is answered, or refused with a client
// error. The plane has no segment, so no request changes anything.
func FuzzAdmin(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"GET", "/vnic/status", "", ""},
		{"GET", "/vnic/flows", "client=10.20.0.0/16&segment=a&bridge=lan&state=closing&protocol=tcp&limit=7", ""},
		{"GET", "/vnic/flows", "limit=-1&colour=red", ""},
		{"GET", "/vnic/flows", "client=::1%25eth0&client=%zz", ""},
		{"GET", "/vnic/clients", "client=2001:db8::/32", ""},
		{"POST", "/vnic/segments/a/drain", "", ""},
		{"POST", "/vnic/segments/a/drain", "", `{"flows": true}`},
		{"POST", "/vnic/segments/a/weight", "", `{"weight": 3}`},
		{"DELETE", "/vnic/segments//weight", "", `{"weight": 1e99}`},
		{"POST", "/vnic/bridges/lan/switch", "", `{"segment": "b"}`},
		{"POST", "/vnic/bridges/../switch/switch", "", `{"segment": ["b"], "colour": {}}`},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	plane := vnicbridge.New(vnicbridge.Options{})
	a := New(Shared{
		Plane: plane, Sockets: sites.NewSockets(plane), Journal: new(journal.Journal),
		Running: func() bool { return true }, CloseIdle: func(string) {}, Restart: func() string { return "" },
	})
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		for _, route := range a.Routes() {
			if !strings.HasPrefix(path, route.Pattern) {
				continue
			}
			r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Body: io.NopCloser(strings.NewReader(body))}
			wantAnswered(t, route.Handler.ServeHTTP(httptest.NewRecorder(), r))
		}
		for _, into := range []any{new(SwitchRequest), new(WeightRequest), new(DrainRequest)} {
			wantAnswered(t, decode(&http.Request{Body: io.NopCloser(strings.NewReader(body))}, into, "{}"))
		}
	})
}

func wantAnswered(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var refused caddy.APIError
	if !errors.As(err, &refused) || refused.HTTPStatus < 400 || refused.HTTPStatus > 499 {
		t.Errorf("%v is no error of the client's", err)
	}
}
