// Package dashboard serves a page that shows and operates a running instance, to one
// browser on this machine.
package dashboard

import (
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"sync/atomic"
)

//go:embed page
var page embed.FS

// policy allows the page its own files, and no script but from them.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Dashboard is a handler that serves the page, and forwards the page's requests to
// the admin API.
//
// It is on a loopback port, which every user, every program and every web page that
// a browser here shows can send requests to. So it answers whoever comes first with
// its token, and from then on the browser that did, by a cookie.
type Dashboard struct {
	addr  netip.AddrPort
	admin http.Handler

	token   string
	session string
	spent   atomic.Bool // the token has become a session
}

// New makes a dashboard that is served at a loopback address. admin gets the requests
// below /vnic/.
func New(addr netip.AddrPort, admin http.Handler) *Dashboard {
	return &Dashboard{addr: addr, admin: admin, token: rand.Text(), session: rand.Text()}
}

// URL is the page's, for one visit.
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
	case r.URL.Path == "/":
		http.ServeFileFS(w, r, page, "page/index.html")
	default:
		http.ServeFileFS(w, r, page, path.Join("page", path.Clean("/"+r.URL.Path)))
	}
}

// admits tells whether a request belongs to the session, or begins it. The page is
// the answer to the request that does: after a redirection, a browser that came from
// another site's link would hold a strict cookie back.
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

// cookieName has the port in it: cookies are a host's, and another dashboard's would
// take the place of ours.
func (d *Dashboard) cookieName() string { return fmt.Sprintf("caddy-vnic-%d", d.addr.Port()) }

// same compares in a time that tells nothing of either.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
