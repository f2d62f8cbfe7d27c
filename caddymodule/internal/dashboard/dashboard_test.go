package dashboard

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

const here = "127.0.0.1:7020"

// asked is a request to the dashboard. Fields that are not set are as the page sends them.
type asked struct {
	method, path, host string
	header             http.Header
	stranger           bool // has no session
}

// opened returns a dashboard in front of an admin API that answers with the request, and the
// cookie of the session that the dashboard's URL has begun.
func opened(t *testing.T) (*Dashboard, *http.Cookie) {
	t.Helper()
	d := New(netip.MustParseAddrPort(here), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "admin: "+r.Method+" "+r.URL.Path)
	}))
	response := d.ask(asked{path: strings.TrimPrefix(d.URL(), "http://"+here), stranger: true}, nil)
	cookies := response.Cookies()
	if response.StatusCode != http.StatusOK || len(cookies) != 1 {
		t.Fatalf("the URL is answered by %s, with the cookies %v", response.Status, cookies)
	}
	return d, cookies[0]
}

func (d *Dashboard) ask(a asked, session *http.Cookie) *http.Response {
	if a.method == "" {
		a.method = http.MethodGet
	}
	r := httptest.NewRequest(a.method, "http://"+here+a.path, nil)
	r.Host = here
	if a.host != "" {
		r.Host = a.host
	}
	if a.header != nil {
		r.Header = a.header
	}
	if !a.stranger {
		r.AddCookie(session)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTokenIsForOneVisit checks that the token opens the page once, and that a cookie keeps it
// open for that browser.
func TestTokenIsForOneVisit(t *testing.T) {
	d, session := opened(t)
	if !session.HttpOnly || session.SameSite != http.SameSiteStrictMode || session.Path != "/" || session.Domain != "" || session.MaxAge != 0 {
		t.Errorf("the cookie is %v", session)
	}
	token := strings.TrimPrefix(d.URL(), "http://"+here)
	for _, tc := range []struct {
		asked
		want int
	}{
		{asked{path: "/"}, http.StatusOK},
		{asked{path: token}, http.StatusOK},
		{asked{path: "/dashboard.js"}, http.StatusOK},
		{asked{path: "/vnic/status"}, http.StatusOK},
		{asked{path: token, stranger: true}, http.StatusForbidden},
		{asked{path: "/", stranger: true}, http.StatusForbidden},
		{asked{path: "/dashboard.js", stranger: true}, http.StatusForbidden},
		{asked{path: "/vnic/status", stranger: true}, http.StatusForbidden},
		{asked{path: "/vnic/status" + token[1:], stranger: true}, http.StatusForbidden},
		{asked{path: "/vnic/status", stranger: true, header: http.Header{"Cookie": {session.Name + "="}}}, http.StatusForbidden},
		{asked{path: "/vnic/status", stranger: true, header: http.Header{"Cookie": {session.Name + "=" + d.token}}}, http.StatusForbidden},
	} {
		if got := d.ask(tc.asked, session).StatusCode; got != tc.want {
			t.Errorf("%+v is answered by %d, want %d", tc.asked, got, tc.want)
		}
	}

	fresh := New(netip.MustParseAddrPort(here), http.NotFoundHandler())
	for _, a := range []asked{
		{path: "/?token="}, {path: "/?token=" + d.token}, {path: "/style.css?token=" + fresh.token},
		{path: "/?token=" + fresh.token, method: http.MethodHead}, {path: "/?token=" + fresh.token, host: "evil.example"},
	} {
		a.stranger = true
		if response := fresh.ask(a, nil); response.StatusCode != http.StatusForbidden || len(response.Cookies()) > 0 {
			t.Errorf("%+v is answered by %s", a, response.Status)
		}
	}
	if got := fresh.ask(asked{path: "/?token=" + fresh.token, stranger: true}, nil).StatusCode; got != http.StatusOK {
		t.Errorf("after those the token is answered by %d", got)
	}
}

// TestForeignRequestsAreRefused checks that requests from other pages, and under other names of
// this address, are refused with and without a session.
func TestForeignRequestsAreRefused(t *testing.T) {
	d, session := opened(t)
	const own = "http://" + here
	fields := func(pairs ...string) http.Header {
		h := make(http.Header)
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	for _, tc := range []struct {
		asked
		want int
	}{
		{asked{host: "localhost:7020"}, http.StatusOK},
		{asked{header: fields("Origin", own, "Sec-Fetch-Site", "same-origin")}, http.StatusOK},
		{asked{method: http.MethodPost, header: fields("Origin", own)}, http.StatusOK},
		{asked{method: http.MethodDelete, header: fields("Origin", own)}, http.StatusOK},
		{asked{host: "localhost:7020", method: http.MethodPost, header: fields("Origin", "http://localhost:7020")}, http.StatusOK},
		{asked{path: "/", header: fields("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate")}, http.StatusOK},

		{asked{host: "evil.example:7020"}, http.StatusForbidden},
		{asked{host: "127.0.0.1"}, http.StatusForbidden},
		{asked{host: "127.0.0.1:7021"}, http.StatusForbidden},
		{asked{host: "localhost.evil.example:7020"}, http.StatusForbidden},
		{asked{header: fields("Origin", "http://evil.example")}, http.StatusForbidden},
		{asked{header: fields("Origin", "http://127.0.0.1:8080")}, http.StatusForbidden},
		{asked{header: fields("Origin", "https://"+here)}, http.StatusForbidden},
		{asked{header: fields("Origin", "null")}, http.StatusForbidden},
		{asked{header: fields("Origin", "")}, http.StatusForbidden},
		{asked{header: fields("Origin", own, "Origin", "http://evil.example")}, http.StatusForbidden},
		{asked{host: "localhost:7020", header: fields("Origin", own)}, http.StatusForbidden},
		{asked{method: http.MethodPost}, http.StatusForbidden},
		{asked{method: http.MethodDelete}, http.StatusForbidden},
		{asked{header: fields("Sec-Fetch-Site", "same-site")}, http.StatusForbidden},
		{asked{header: fields("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors")}, http.StatusForbidden},
		{asked{header: fields("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate")}, http.StatusForbidden},
	} {
		if tc.path == "" {
			tc.path = "/vnic/segments/a/drain"
		}
		if got := d.ask(tc.asked, session).StatusCode; got != tc.want {
			t.Errorf("%+v is answered by %d, want %d", tc.asked, got, tc.want)
		}
	}
}

// TestOnlyVNICRoutesAreForwarded checks that only the plugin's own routes are forwarded,
// whatever the spelling of others.
func TestOnlyVNICRoutesAreForwarded(t *testing.T) {
	d, session := opened(t)
	for _, path := range []string{"/vnic/status", "/vnic/flows?segment=a", "/vnic/segments/web-1_b/drain"} {
		if got, want := body(t, d.ask(asked{path: path}, session)), "admin: GET "+strings.Split(path, "?")[0]; got != want {
			t.Errorf("%s is answered %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{
		"/load", "/config/", "/vnic", "/vnic/", "/stop", "/vnicx/status", "/VNIC/status", "/vnic/watch",
		"/vnic/../load", "/vnic/./../load", "/vnic/%2e%2e/load", "/vnic/%2E%2E%2Fload", "/vnic%2f..%2fload", "/vnic%2fstatus", "/vnic/%252e%252e/load",
		"/vnic/..%5cload", "/vnic//load", "//vnic/status", "/vnic/status/", "/vnic/status%00", "/vnic/a%0d%0ab",
		"/index.html/../../dashboard.go", "/../dashboard.go", "/%2e%2e/dashboard.go",
	} {
		response := d.ask(asked{path: path}, session)
		if text := body(t, response); response.StatusCode == http.StatusOK || strings.Contains(text, "admin:") {
			t.Errorf("%s is answered by %s %q", path, response.Status, text)
		}
	}
	post := asked{path: "/dashboard.js", method: http.MethodPost, header: http.Header{"Origin": {"http://" + here}}}
	if got := d.ask(post, session).StatusCode; got != http.StatusMethodNotAllowed {
		t.Errorf("POST of a file is answered by %d", got)
	}
}

// TestPageIsComplete checks that the page loads only files that the dashboard serves.
func TestPageIsComplete(t *testing.T) {
	d, session := opened(t)
	files, err := page.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := page.ReadFile("page/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if f.Name() == "index.html" {
			continue // it is at /
		}
		response := d.ask(asked{path: "/" + url.PathEscape(f.Name())}, session)
		if body(t, response) != string(text) {
			t.Errorf("%s is answered by %s", f.Name(), response.Status)
		}
		header := response.Header
		if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") ||
			header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s comes with %v", f.Name(), header)
		}
		for _, sink := range []string{"innerHTML", "outerHTML =", "insertAdjacentHTML", "document.write", "eval(", "setAttribute(\"style"} {
			if strings.Contains(string(text), sink) {
				t.Errorf("%s has %s", f.Name(), sink)
			}
		}
	}
}

// TestPageExplainsEachDropReason checks that the page tells what each reason means, and knows no
// other.
func TestPageExplainsEachDropReason(t *testing.T) {
	text, err := page.ReadFile("page/reasons.js")
	if err != nil {
		t.Fatal(err)
	}
	var explained []string
	for _, match := range regexp.MustCompile(`(?m)^\t(\w+): "[A-Z].*\.",$`).FindAllStringSubmatch(string(text), -1) {
		explained = append(explained, match[1])
	}
	reasons := vnicbridge.DropReasons()
	slices.Sort(explained)
	slices.Sort(reasons)
	if !slices.Equal(explained, reasons) {
		t.Errorf("the page explains %v, want %v", explained, reasons)
	}
}

// TestSessionTellsOwnAddresses checks that the page learns whom it must not ban, and nobody else
// does.
func TestSessionTellsOwnAddresses(t *testing.T) {
	d, session := opened(t)
	d.own = []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	if got := body(t, d.ask(asked{path: "/session"}, session)); got != `{"own":["192.0.2.7"]}`+"\n" {
		t.Errorf("the session is %s", got)
	}
	if got := d.ask(asked{path: "/session", stranger: true}, nil).StatusCode; got != http.StatusForbidden {
		t.Errorf("a stranger is answered by %d", got)
	}
}
