package dashboard

import (
	"fmt"
	"net/http"
	"slices"
)

// foreign returns the reason if a request does not come from the page itself. The Host field
// shows a foreign name that resolves to this address (DNS rebinding). The Origin field shows
// another page in the same browser, even on another port of this host.
func (d *Dashboard) foreign(r *http.Request) string {
	hosts := []string{d.addr.String(), fmt.Sprintf("localhost:%d", d.addr.Port())}
	if !slices.Contains(hosts, r.Host) {
		return fmt.Sprintf("this is %s: requests for another host are refused", d.addr)
	}
	origins := r.Header.Values("Origin")
	if len(origins) > 1 || len(origins) == 1 && origins[0] != "http://"+r.Host {
		return "requests from other origins are refused"
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	default:
		if len(origins) == 0 {
			return "requests that change something must say their origin"
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return ""
	}
	// A link may open the page itself.
	if r.URL.Path != "/" || r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return "requests from other sites are refused"
	}
	return ""
}
