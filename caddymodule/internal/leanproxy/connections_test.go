package leanproxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// eachSide runs a test for each layer, with a rig of its own.
func eachSide(t *testing.T, options string, play script, run func(t *testing.T, s side, u *scripted)) {
	t.Helper()
	for _, fast := range []bool{true, false} {
		t.Run(map[bool]string{true: "fast", false: "reverse_proxy"}[fast], func(t *testing.T) {
			u := newScripted(t, play)
			rig := newRig(t, []string{u.address}, []string{u.address}, options)
			if fast {
				run(t, rig.fast, u)
			} else {
				run(t, rig.slow, u)
			}
		})
	}
}

func (s side) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	client := &http.Client{Timeout: testsite.Patience}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + s.address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, string(text)
}

// TestStaleConnections checks that no request fails if an upstream closes a connection after
// the response without announcing it, or sends its next answer before the request.
func TestStaleConnections(t *testing.T) {
	told := make(chan struct{}) // what comes after the next request is its answer
	for name, play := range map[string]script{
		"closed": answerAndClose("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
		"reset":  reset("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
		"timeout told": func(c *peer) bool {
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			c.write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
			told <- struct{}{}
			return false
		},
		"closed when asked again": func(c *peer) bool {
			if c.nth > 0 {
				return false
			}
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachSide(t, "", play, func(t *testing.T, s side, u *scripted) {
				for range 5 {
					if status, body := s.get(t, "/"); status != http.StatusOK || body != "ok" {
						t.Errorf("%d %q", status, body)
					}
					if name == "timeout told" {
						<-told
					}
				}
			})
		})
	}
}

// TestUnasked checks that what an upstream sends without a request is never the answer to the
// next one, whether it comes at the end of a response or later. (net/http finds out in the
// background, which may be too late.)
func TestUnasked(t *testing.T) {
	const good, evil = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	later, said := make(chan struct{}), make(chan struct{})
	for name, play := range map[string]script{
		"at once": answer(good + evil),
		"chunks":  answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil),
		"later": func(c *peer) bool {
			c.write(good)
			<-later
			c.write(evil)
			said <- struct{}{}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newScripted(t, play)
			rig := newRig(t, []string{u.address}, nil, "")
			for range 3 {
				if status, body := rig.fast.get(t, "/"); status != http.StatusOK || body != "ok" {
					t.Errorf("%d %q", status, body)
				}
				if name == "later" {
					later <- struct{}{}
					<-said
				}
			}
			if n := u.connections(); n != 3 {
				t.Errorf("%d connections for 3 requests", n)
			}
		})
	}
}

// TestNoReplay checks that a request that changes something is not sent twice.
func TestNoReplay(t *testing.T) {
	play := func(c *peer) bool {
		if c.nth > 0 {
			return false
		}
		c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return true
	}
	eachSide(t, "", play, func(t *testing.T, s side, u *scripted) {
		s.get(t, "/")
		u.take()
		a := s.ask(t, "DELETE / HTTP/1.1\r\n")
		if sent := u.take(); !strings.HasPrefix(a.head, "HTTP/1.1 502") || len(sent) != 1 {
			t.Errorf("%s; it was sent %d times", a, len(sent))
		}
	})
}

// TestConnectionsAreKept checks that connections are kept for any number of responses of either
// framing.
func TestConnectionsAreKept(t *testing.T) {
	play := func(c *peer) bool {
		switch c.request.URL.Path {
		case "/chunks":
			c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
		case "/odd":
			c.write("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
		default:
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		return true
	}
	eachSide(t, "", play, func(t *testing.T, s side, u *scripted) {
		for _, path := range []string{"/", "/chunks", "/", "/chunks", "/"} {
			if status, body := s.get(t, path); status != http.StatusOK || body != "ok" {
				t.Errorf("%s: %d %q", path, status, body)
			}
		}
		if n := u.connections(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// TestClientGoes checks that the request to the upstream ends if its client goes away, before
// the response or during it.
func TestClientGoes(t *testing.T) {
	for name, begin := range map[string]string{
		"before the response": "",
		"in the response":     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhello",
		"in chunks":           "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			asked, gone := make(chan struct{}, 1), make(chan error, 1)
			play := func(c *peer) bool {
				c.write(begin)
				asked <- struct{}{}
				_, err := c.r.ReadByte() // the upstream expects the end
				gone <- err
				return false
			}
			eachSide(t, "", play, func(t *testing.T, s side, _ *scripted) {
				conn := testsite.Dial(t, s.address)
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
				await(t, asked, "the request")
				conn.Close()
				if err := await(t, gone, "the end of the upstream's connection"); err == nil {
					t.Error("something came instead")
				}
			})
		})
	}
}

func await[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(testsite.Patience):
		t.Fatalf("%s has not come", what)
	}
	return v
}

// TestSlowEnds checks that a client that reads slowly gets all of a body that exceeds every
// buffer on the way, and that the proxy waits for a slow upstream.
func TestSlowEnds(t *testing.T) {
	const size = 32 << 20
	body := strings.Repeat("0123456789abcdef", size/16)
	play := func(c *peer) bool {
		time.Sleep(2 * brief) // longer than an immediate answer
		c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), body)
		return true
	}
	eachSide(t, "", play, func(t *testing.T, s side, _ *scripted) {
		conn := testsite.Dial(t, s.address)
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		for n := 0; n < size; {
			m, err := response.Body.Read(got[n:min(n+100_000, size)])
			if n += m; err != nil && n < size {
				t.Fatalf("after %d bytes: %v", n, err)
			}
		}
		if string(got) != body {
			t.Error("it is not what the upstream sent")
		}
	})
}

// TestStalledClient checks that a client that does not read is cut off: the server's idle
// timeout holds also while the kernel sends alone.
func TestStalledClient(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 4<<20)
	gone := make(chan error, 1)
	play := func(c *peer) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		gone <- err
		return false
	}
	eachSide(t, "", play, func(t *testing.T, s side, _ *scripted) {
		conn := testsite.Dial(t, s.address)
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err := await(t, gone, "the end of the upstream's connection"); err == nil {
			t.Error("all of the body has been taken")
		}
	})
}

// TestInFlight checks that the two layers count requests in flight together: least_conn,
// max_requests and the admin API see all of them.
func TestInFlight(t *testing.T) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	play := func(c *peer) bool {
		asked <- struct{}{}
		<-answer
		c.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return true
	}
	eachSide(t, "", play, func(t *testing.T, s side, u *scripted) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.get(t, "/")
		}()
		await(t, asked, "the request")
		loaded, _ := layers.Load(false)
		if n := loaded.(*layer).Upstreams[0].NumRequests(); n != 1 {
			t.Errorf("%d requests are in flight, want 1", n)
		}
		answer <- struct{}{}
		await(t, done, "the response")
		if n := loaded.(*layer).Upstreams[0].NumRequests(); n != 0 {
			t.Errorf("%d requests are in flight when all is over", n)
		}
	})
}

// TestFailover checks that reverse_proxy counts a failure of the lean proxy, and retries.
func TestFailover(t *testing.T) {
	const options = `"load_balancing": {"selection_policy": {"policy": "round_robin"}, "retries": 2},
		"health_checks": {"passive": {"fail_duration": "1h", "unhealthy_status": [503]}},`
	for name, bad := range map[string]script{
		"no answer":  answerAndClose(),
		"reset":      reset(""),
		"no HTTP":    answerAndClose("SSH-2.0-x\r\n"),
		"bad status": answer("HTTP/1.1 503 Down\r\nContent-Length: 4\r\n\r\ndown"),
	} {
		t.Run(name, func(t *testing.T) {
			down := newScripted(t, bad)
			up := newScripted(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
			pool := []string{up.address, down.address} // round_robin begins with the second
			rig := newRig(t, pool, nil, options)
			want := http.StatusOK
			if name == "bad status" {
				want = http.StatusServiceUnavailable // the lean proxy passes this answer on
			}
			if status, body := rig.fast.get(t, "/"); status != want {
				t.Errorf("%d %q", status, body)
			}
			if status, body := rig.fast.get(t, "/"); status != http.StatusOK || body != "ok" {
				t.Errorf("then %d %q", status, body)
			}
			if n := len(down.take()); n != 1 {
				t.Errorf("the one that is down was asked %d times", n)
			}
			loaded, _ := layers.Load(false)
			for i, want := range []int{0, 1} {
				if upstream := loaded.(*layer).Upstreams[i]; upstream.Fails() != want || upstream.Healthy() != (want == 0) {
					t.Errorf("upstream %d: %d fails, healthy %v", i, upstream.Fails(), upstream.Healthy())
				}
			}
		})
	}
}

// TestNobodyListens checks that a POST goes on to the next upstream if nobody listens, and is
// answered with 502 after the last.
func TestNobodyListens(t *testing.T) {
	second := newScripted(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	for _, test := range []struct {
		pool []string
		want string
	}{
		{[]string{testsite.FreeAddress(t)}, "HTTP/1.1 502"},
		{[]string{testsite.FreeAddress(t), second.address}, "HTTP/1.1 200"},
	} {
		rig := newRig(t, test.pool, nil, `"load_balancing": {"selection_policy": {"policy": "first"}, "try_duration": "10s", "try_interval": "1ms", "retries": 1},
			"health_checks": {"passive": {"fail_duration": "1h"}},`)
		if a := rig.fast.ask(t, "POST / HTTP/1.1\r\nContent-Length: 0\r\n"); !strings.HasPrefix(a.head, test.want) {
			t.Errorf("%v: %s", test.pool, a)
		}
	}
}

// TestIdleConnections checks that idle connections are closed after the idle timeout, and with
// the configuration.
func TestIdleConnections(t *testing.T) {
	u := newScripted(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	rig := newRig(t, []string{u.address}, nil, "")
	rig.fast.get(t, "/")
	loaded, _ := layers.Load(false)
	fast := loaded.(*layer).lean
	kept := fast.upstreams[fast.pool[0]]
	c := kept.idle[0]
	c.keptSince = c.keptSince.Add(-kept.idleTimeout)
	kept.closeExpired()
	if len(kept.idle) != 0 || c.quiet() {
		t.Errorf("%d connections are idle; it is open: %v", len(kept.idle), c.quiet())
	}
	rig.fast.get(t, "/")
	c = kept.idle[0]
	fast.close()
	if len(kept.idle) != 0 || c.quiet() {
		t.Errorf("%d connections are idle after the end; it is open: %v", len(kept.idle), c.quiet())
	}
}
