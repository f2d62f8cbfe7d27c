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

// forwarded are the paths of the plugin's own routes. Names have letters, digits, _
// and -, so there is nothing to encode, and no way out of /vnic/.
var forwarded = regexp.MustCompile(`^/vnic(/[A-Za-z0-9_-]+)+$`)

func forwardable(u *url.URL) bool { return u.RawPath == "" && forwarded.MatchString(u.Path) }

// Forward makes a handler that asks the admin API at an address, TCP or a Unix socket,
// as Caddy's configuration has it. What the browser says of itself stays here: to the
// admin API the request is one of this program.
func Forward(address string) (http.Handler, error) {
	addr, err := caddy.ParseNetworkAddress(address)
	if err != nil || addr.PortRangeSize() > 1 || addr.IsFdNetwork() {
		return nil, fmt.Errorf("the admin address %s cannot be connected to: want host:port or unix/path (%v)", address, err)
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
