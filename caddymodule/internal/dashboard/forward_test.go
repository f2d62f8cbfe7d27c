package dashboard

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// forwardTo returns a server that forwards to an admin API on a network and address.
func forwardTo(t *testing.T, network, listen string, admin http.HandlerFunc) (front *httptest.Server, address string) {
	t.Helper()
	listener, err := net.Listen(network, listen)
	if err != nil {
		t.Fatal(err)
	}
	back := httptest.NewUnstartedServer(admin)
	back.Listener.Close()
	back.Listener = listener
	back.Start()
	t.Cleanup(back.Close)
	address = listener.Addr().String()
	if network == "unix" {
		address = "unix/" + address + "|0222"
	}
	handler, err := Forward(address)
	if err != nil {
		t.Fatal(err)
	}
	front = httptest.NewServer(handler)
	t.Cleanup(front.Close)
	return front, address
}

// TestForward checks that requests reach the admin API as this program's own, with their
// bodies, over TCP and over a Unix socket, and that the answers come back.
func TestForward(t *testing.T) {
	for network, listen := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "admin.sock")} {
		t.Run(network, func(t *testing.T) {
			front, address := forwardTo(t, network, listen, func(w http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				w.Header().Set("Access-Control-Allow-Origin", "*")
				w.WriteHeader(http.StatusConflict)
				fmt.Fprintf(w, "%s %s %s host=%s origin=%s cookie=%s fetch=%s type=%s", r.Method, r.RequestURI, text, r.Host,
					r.Header.Get("Origin"), r.Header.Get("Cookie"), r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Content-Type"))
			})
			want := fmt.Sprintf("%%s /vnic/x?a=b {} host=%s origin=http://%s cookie= fetch= type=application/json", address, address)
			if network == "unix" {
				want = "%s /vnic/x?a=b {} host=127.0.0.1 origin= cookie= fetch= type=application/json"
			}
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
				r, err := http.NewRequest(method, front.URL+"/vnic/x?a=b", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				r.Header = http.Header{"Cookie": {"a=b"}, "Origin": {front.URL}, "Sec-Fetch-Mode": {"cors"}, "Content-Type": {"application/json"}}
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if got := body(t, response); got != fmt.Sprintf(want, method) || response.StatusCode != http.StatusConflict || response.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s %v\n%s, want\n%s", response.Status, response.Header, got, fmt.Sprintf(want, method))
				}
			}
		})
	}
}

// TestForwardStreams checks that the parts of a stream are passed on as they come.
func TestForwardStreams(t *testing.T) {
	next := make(chan bool)
	front, _ := forwardTo(t, "tcp", "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		for range next {
			io.WriteString(w, "part\n")
			w.(http.Flusher).Flush()
		}
	})
	defer close(next)
	go func() { next <- true }()
	response, err := http.Get(front.URL + "/vnic/capture")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for i := range 3 {
		if i > 0 {
			next <- true
		}
		if line, err := lines.ReadString('\n'); line != "part\n" {
			t.Fatalf("part %d is %q: %v", i, line, err)
		}
	}
}

// TestForwardToNobody checks that an absent admin API is reported, and that an impossible
// address is refused at once.
func TestForwardToNobody(t *testing.T) {
	handler, err := Forward("unix/" + filepath.Join(t.TempDir(), "nobody.sock"))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/vnic/status", nil))
	if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "nobody.sock does not answer") {
		t.Errorf("the answer is %d %s", w.Code, w.Body)
	}
	for _, address := range []string{"localhost:2000-2010", "fd/3"} {
		if _, err := Forward(address); err == nil {
			t.Errorf("%s is no error", address)
		}
	}
}
