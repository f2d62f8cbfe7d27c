// Package dashboard serves a page that shows and operates a running instance, to one
// browser on this machine.
package dashboard

import (
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"sync/atomic"
)

//go:embed page
var page embed.FS

// policy lets the page load only its own files, and run scripts only from these files.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Dashboard is a handler that serves the page, and forwards the page's requests to
// the admin API.
//
// Every user and program on this machine, and every web page in a browser here, can send
// requests to the loopback port. So the dashboard admits the first browser that has the
// token, and from then on only that browser, by a cookie.
type Dashboard struct {
	addr  netip.AddrPort
	admin http.Handler
	own   []netip.Addr

	token   string
	session string
	spent   atomic.Bool // the token has become a session
}

// New returns a dashboard for a loopback address. It passes requests below /vnic/ to
// admin. The page bans none of own, the addresses of the user.
func New(addr netip.AddrPort, admin http.Handler, own ...netip.Addr) *Dashboard {
	return &Dashboard{addr: addr, admin: admin, own: own, token: rand.Text(), session: rand.Text()}
}

// URL returns the address of the page, which is good for one visit.
func (d *Dashboard) URL() string { return fmt.Sprintf("http://%s/?token=%s", d.addr, d.token) }

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if reason := d.foreign(r); reason != "" {
		http.Error(w, reason, http.StatusForbidden)
		return
	}
	if !d.admits(w, r) {
		http.Error(w, "The address of this page is good for one browser, once. Run caddy vnic dashboard again for another one.", http.StatusForbidden)
		return
	}
	switch {
	case forwardable(r.URL):
		d.admin.ServeHTTP(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case r.URL.Path == "/session":
		header.Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string][]netip.Addr{"own": d.own})
	case r.URL.Path == "/":
		http.ServeFileFS(w, r, page, "page/index.html")
	default:
		http.ServeFileFS(w, r, page, path.Join("page", path.Clean("/"+r.URL.Path)))
	}
}

// admits tells whether a request belongs to the session, or begins it. The request that
// begins the session gets the page without a redirection, because a browser that came from
// another site's link would not send a strict cookie after a redirection.
func (d *Dashboard) admits(w http.ResponseWriter, r *http.Request) bool {
	cookie, err := r.Cookie(d.cookieName())
	if err == nil && same(cookie.Value, d.session) {
		return true
	}
	if r.Method != http.MethodGet || r.URL.Path != "/" || !same(r.URL.Query().Get("token"), d.token) || !d.spent.CompareAndSwap(false, true) {
		return false
	}
	http.SetCookie(w, &http.Cookie{Name: d.cookieName(), Value: d.session, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	return true
}

// cookieName contains the port, because all ports of a host share cookies, and the cookie
// of another dashboard would replace ours.
func (d *Dashboard) cookieName() string { return fmt.Sprintf("caddy-vnic-%d", d.addr.Port()) }

// same compares two texts in constant time.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
