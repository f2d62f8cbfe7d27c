package api

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// newWatched serves the routes as Caddy does, and returns how to connect to them.
func newWatched(t *testing.T) (*API, func() (net.Conn, *bufio.Reader)) {
	t.Helper()
	plane := vnicbridge.New(vnicbridge.Options{})
	a := New(Shared{
		Plane: plane, Sockets: sites.NewSockets(plane), Journal: new(journal.Journal),
		Running: func() bool { return true }, CloseIdle: func(string) {}, Restart: func() string { return "" },
	})
	mux := http.NewServeMux()
	for _, route := range a.Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Handler.ServeHTTP(w, r); err != nil {
				var refused caddy.APIError
				errors.As(err, &refused)
				http.Error(w, err.Error(), refused.HTTPStatus)
			}
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return a, func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn, bufio.NewReader(conn)
	}
}

// say sends a request, and returns the answer, whose body has been read.
func say(t *testing.T, conn net.Conn, answers *bufio.Reader, request string) (resp *http.Response, body string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := io.ReadAll(resp.Body)
	if err != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(err)
	}
	return resp, string(read)
}

const beginWatch = "GET /vnic/watch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: caddy-vnic-watch\r\n\r\n"

// TestWatch checks that a watch reads again and again by one request of Caddy's, and does nothing
// else.
func TestWatch(t *testing.T) {
	_, connect := newWatched(t)
	conn, answers := connect()
	if _, err := io.WriteString(conn, beginWatch); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(answers, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("a watch is answered by %v (%v)", resp, err)
	}
	for range 3 {
		for _, test := range []struct {
			request string
			want    int
		}{
			{"GET /vnic/status", 200}, {"GET /vnic/flows?limit=3", 200}, {"GET /vnic/clients", 200},
			{"GET /vnic/events", 200}, {"GET /vnic/history", 200}, {"GET /vnic/bans?limit=1", 200},
			{"GET /vnic/flows?colour=red", 400},
			{"POST /vnic/bans", 404}, {"DELETE /vnic/bans", 404}, {"POST /vnic/segments/a/drain", 404}, {"POST /vnic/upgrade", 404},
			{"GET /vnic/capture?of=a", 404}, {"GET /config/", 404}, {"GET /vnic/watch", 404}, {"GET /vnic//status", 404},
		} {
			resp, body := say(t, conn, answers, test.request+" HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp.StatusCode != test.want || (test.want != 200) != strings.HasPrefix(body, `{"error":`) || resp.Close {
				t.Errorf("%s: %s %s, want %d", test.request, resp.Status, body, test.want)
			}
		}
	}
}

// TestWatchIsAskedFor checks that nobody gets a watch by accident, and that nothing may come before
// it is granted.
func TestWatchIsAskedFor(t *testing.T) {
	_, connect := newWatched(t)
	conn, answers := connect()
	if resp, body := say(t, conn, answers, "GET /vnic/watch HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != http.StatusUpgradeRequired || resp.Header.Get("Upgrade") != WatchProtocol {
		t.Errorf("without an upgrade the answer is %s %s", resp.Status, body)
	}
	if resp, body := say(t, conn, answers, strings.Replace(beginWatch, "GET", "POST", 1)); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a POST is answered by %s %s", resp.Status, body)
	}
	early, after := connect()
	if _, err := io.WriteString(early, beginWatch+"GET /vnic/status HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(after); len(answer) > 0 {
		t.Errorf("who did not wait gets %q (%v)", answer, err)
	}
}

// TestWatchEnds checks that a watch that is over closes its connection after an answer.
func TestWatchEnds(t *testing.T) {
	a, _ := newWatched(t)
	for _, test := range []struct {
		until time.Time
		over  bool
	}{{time.Now().Add(time.Hour), false}, {time.Now(), true}} {
		w := httptest.NewRecorder()
		a.watch(test.until).ServeHTTP(w, httptest.NewRequest(http.MethodGet, StatusPath, nil))
		if w.Code != http.StatusOK || (w.Header().Get("Connection") == "close") != test.over {
			t.Errorf("until %s: %d %v", test.until, w.Code, w.Header())
		}
	}
}
