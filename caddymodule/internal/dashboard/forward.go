package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// forwarded matches the paths of the plugin's own routes. Names consist of letters, digits,
// _ and -, so paths need no encoding, and no path leads out of /vnic/.
var forwarded = regexp.MustCompile(`^/vnic(/[A-Za-z0-9_-]+)+$`)

func forwardable(u *url.URL) bool { return u.RawPath == "" && forwarded.MatchString(u.Path) }

// Forward returns a handler that passes requests to the admin API at an address, which is
// written as in Caddy's configuration: TCP or a Unix socket. The fields that the browser
// sends about itself are removed, so the admin API sees requests of this program.
func Forward(address string) (http.Handler, error) {
	addr, err := caddy.ParseNetworkAddress(address)
	if err != nil || addr.PortRangeSize() > 1 || addr.IsFdNetwork() {
		return nil, fmt.Errorf("cannot connect to the admin address %s: want host:port or unix/path (%v)", address, err)
	}
	host, origin := addr.JoinHostPort(0), "http://"+addr.JoinHostPort(0)
	if addr.IsUnixNetwork() {
		addr.Host, _, _ = strings.Cut(addr.Host, "|") // the permissions of the socket
		host, origin = "127.0.0.1", ""
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", host, host
			r.Out.Header = make(http.Header)
			for _, name := range []string{"Accept", "Content-Type"} {
				if value := r.In.Header.Get(name); value != "" {
					r.Out.Header.Set(name, value)
				}
			}
			if origin != "" {
				r.Out.Header.Set("Origin", origin)
			}
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, addr.Network, addr.JoinHostPort(0))
			},
			DisableCompression: true,
		},
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
