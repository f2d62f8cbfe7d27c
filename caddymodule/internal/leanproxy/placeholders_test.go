package leanproxy

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// TestPlaceholders checks that reverse_proxy's placeholders have the same values in either
// layer, also for a response that passes both.
func TestPlaceholders(t *testing.T) {
	for name, version := range map[string]string{"plain": "HTTP/1.1", "odd": "HTTP/1.0"} {
		t.Run(name, func(t *testing.T) {
			u := newScripted(t, answer(version+" 201 Made\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nok"))
			rig := newRig(t, []string{u.address}, []string{u.address}, "")
			host, port, _ := net.SplitHostPort(u.address)
			want := strings.Join([]string{reverseproxy.DialInfo{Network: "tcp", Host: host, Port: port}.String(), u.address, host, port, "0", "0", "0", "201", "201 Made", "1,2"}, "|")
			for _, s := range []side{rig.fast, rig.slow} {
				response, err := http.Get("http://" + s.address + "/")
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if got := response.Header.Get("X-Shown"); got != want {
					t.Errorf("%s: %q, want %q", response.Header.Get("X-Path"), got, want)
				}
			}
		})
	}
}

// TestDurations checks that the durations are those of the whole request, whichever layer took
// the time.
func TestDurations(t *testing.T) {
	const slow = 20 * time.Millisecond
	for name, version := range map[string]string{"plain": "HTTP/1.1", "odd": "HTTP/1.0"} {
		t.Run(name, func(t *testing.T) {
			u := newScripted(t, func(c *peer) bool {
				time.Sleep(slow) // the time that the test measures
				c.write(version + " 200 OK\r\nContent-Length: 5\r\n\r\nhello")
				return false
			})
			newRig(t, []string{u.address}, []string{u.address}, "")
			loaded, _ := layers.Load(false)
			request := newServedRequest()
			prepared := request.prepare()
			if err := loaded.(*layer).ServeHTTP(request, prepared, nil); err != nil {
				t.Fatal(err)
			}
			repl := prepared.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
			for _, name := range []string{"upstream.latency", "upstream.duration", "duration"} {
				value, _ := repl.Get(placeholders + name)
				ms, _ := repl.Get(placeholders + name + "_ms")
				if d, ok := value.(time.Duration); !ok || d < slow || ms != d.Seconds()*1e3 {
					t.Errorf("%s is %v, %v ms, and took at least %v", name, value, ms, slow)
				}
			}
		})
	}
}
