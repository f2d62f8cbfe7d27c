package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/endpoint"
)

// forwarded matches the paths of the plugin's own routes. Names consist of letters, digits,
// _ and -, so paths need no encoding, and no path leads out of /vnic/.
var forwarded = regexp.MustCompile(`^/vnic(/[A-Za-z0-9_-]+)+$`)

func forwardable(u *url.URL) bool {
	return u.RawPath == "" && forwarded.MatchString(u.Path) && u.Path != api.WatchPath
}

// Forward returns a handler that passes requests to the admin API at an address, which is
// written as in Caddy's configuration: TCP or a Unix socket. The fields that the browser
// sends about itself are removed, so the admin API sees requests of this program.
func Forward(address string) (http.Handler, error) {
	to, err := endpoint.Parse(address)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Header = make(http.Header)
			for _, name := range []string{"Accept", "Content-Type"} {
				if value := r.In.Header.Get(name); value != "" {
					r.Out.Header.Set(name, value)
				}
			}
		},
		Transport:     to.To(&transport{to.Watch(), to.Transport()}),
		FlushInterval: -1, // a stream's parts are wanted as they come
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del("Access-Control-Allow-Origin")
			r.Header.Del("Set-Cookie")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadGateway)
			json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprintf("the admin API at %s does not answer: %v", address, err)})
		},
	}, nil
}

// transport sends what a page asks again and again by a watch, and everything else so that Caddy logs
// it: captures, and what is done.
type transport struct{ watch, other http.RoundTripper }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && r.URL.Path != api.CapturePath {
		return t.watch.RoundTrip(r)
	}
	return t.other.RoundTrip(r)
}
