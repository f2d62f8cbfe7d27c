package rolesocket

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

// instance stands for Caddy. It has segments a and secret, and notes what it is asked to do.
type instance struct {
	asked  []string // method, path and query
	bodies []string
}

const secretStatus = `{"version": "v1", "segments": {"a": {"reach": ["secret"], "peers": {"secret": ["10.9.9.9"]}}, "secret": {"addresses": ["10.9.9.1/24"]}},
	"bridges": {"lan": {"lb_policy": {"policy": "first", "segments": ["a", "secret"]}, "switched_to": "secret", "candidates": {"ipv4": ["a", "secret"]},
		"steer": [{"segment": "secret", "names": ["secret.example"]}], "flows_by_name": {"secret.example": 7}},
		"secretlan": {"lb_policy": {"policy": "first", "segments": ["secret"]}}}}`

func (i *instance) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := `{}`
	if r.URL.Path == api.StatusPath {
		answer = secretStatus
	} else {
		body, _ := io.ReadAll(r.Body)
		i.asked, i.bodies = append(i.asked, r.Method+" "+r.URL.String()), append(i.bodies, string(body))
	}
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(answer))}, nil
}

func newRole(t testing.TB) (*Role, *instance) {
	t.Helper()
	i := new(instance)
	r, err := New("a", i, i, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r, i
}

// FuzzRole checks that nothing is asked of the instance that is not about the role's segment, whatever
// is asked of the role, and that no answer has what another segment is.
func FuzzRole(f *testing.F) {
	for _, seed := range []struct{ method, uri, body string }{
		{"GET", "/vnic/status", ""},
		{"GET", "/vnic/flows?segment=a&bridge=lan&limit=3", ""},
		{"GET", "/vnic/flows?segment=secret", ""},
		{"GET", "/vnic/clients?name=secret.example", ""},
		{"GET", "/vnic/capture?of=segment/a&filter=tcp", ""},
		{"GET", "/vnic/capture?of=lan&peers=true", ""},
		{"GET", "/vnic/bans?limit=3", ""},
		{"POST", "/vnic/bans", `{"networks": ["203.0.113.7"], "for": "1h"}`},
		{"POST", "/vnic/bans", `{"networks": ["203.0.113.7"], "segment": "secret"}`},
		{"DELETE", "/vnic/bans", `{"networks": ["203.0.113.7"], "Bridge": "lan"}`},
		{"POST", "/vnic/segments/a/drain", `{"flows": true}`},
		{"POST", "/vnic/segments/a/weight", `{"weight": 3}`},
		{"DELETE", "/vnic/segments/a/weight", ""},
		{"POST", "/vnic/segments/a/../secret/stop", ""},
		{"POST", "/vnic/segments/%73ecret/stop", ""},
		{"GET", "//config/", ""},
		{"POST", "/load", `{}`},
	} {
		f.Add(seed.method, seed.uri, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, uri, body string) {
		r, i := newRole(t)
		w := httptest.NewRecorder()
		asked := &http.Request{Method: method, RequestURI: uri, Body: io.NopCloser(strings.NewReader(body)), Header: make(http.Header)}
		r.ServeHTTP(w, asked)
		said := w.Body.String()
		if w.Code == http.StatusOK && strings.Contains(said, "secret") && !strings.Contains(uri, "secret") {
			t.Errorf("%s %s: the answer has what is another segment's: %s", method, uri, said)
		}
		for n, request := range i.asked {
			wantOwnRequest(t, request, i.bodies[n])
		}
	})
}

// ownRequests are the requests about segment a, as they come to the instance. A query may go on.
var ownRequests = []string{
	"GET /vnic/events?", "GET /vnic/history?", "POST /vnic/segments/a/drain?", "POST /vnic/segments/a/activate?", "POST /vnic/segments/a/stop?", "POST /vnic/segments/a/start?",
	"POST /vnic/segments/a/weight?", "DELETE /vnic/segments/a/weight?", "POST /vnic/bans?", "DELETE /vnic/bans?",
}

// wantOwnRequest checks a request that came to the instance.
func wantOwnRequest(t *testing.T, request, body string) {
	t.Helper()
	path, query, _ := strings.Cut(request, "?")
	switch path {
	case "GET /vnic/flows", "GET /vnic/clients", "GET /vnic/bans":
		if got := strings.Count("&"+query, "&segment="); got != 1 || !slices.Contains(strings.Split(query, "&"), "segment=a") {
			t.Errorf("the instance is asked for %s", request)
		}
	case "GET /vnic/capture":
		if !slices.Contains(strings.Split(query, "&"), "of=segment%2Fa") || !slices.Contains(strings.Split(query, "&"), "peers=false") {
			t.Errorf("the instance is asked for %s", request)
		}
	default:
		if !slices.Contains(ownRequests, request) {
			t.Errorf("the instance is asked for %s", request)
		}
	}
	if strings.HasSuffix(path, " /vnic/bans") && !strings.HasPrefix(path, "GET") && (!strings.Contains(body, `"segment":"a"`) || strings.Contains(body, `"bridge"`)) {
		t.Errorf("the instance gets the body %s", body)
	}
}
