package sites_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// leavingServer answers "done". It answers /slow only when the test tells it to.
type leavingServer struct {
	*httptest.Server
	sockets       *sites.Sockets
	begun, finish chan struct{}
}

func newLeavingServer(t *testing.T, start func(*httptest.Server)) *leavingServer {
	t.Helper()
	l := &leavingServer{sockets: sites.NewSockets(new(planeStub)), begun: make(chan struct{}), finish: make(chan struct{})}
	l.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			close(l.begun)
			<-l.finish
		}
		io.WriteString(w, "done")
	}))
	l.Listener.Close()
	l.Listener = listen(t, l.sockets, freePort(t))
	l.EnableHTTP2 = true
	l.Config.ConnState, l.Config.ConnContext = l.sockets.ConnState, l.sockets.ConnContext
	start(l.Server)
	t.Cleanup(l.Close)
	return l
}

// TestHTTPConnectionsEndInOrder checks when a drain closes an HTTP server's connections: an
// idle one at once, an active one after its response, and one that comes during the drain
// after its first response. After a start, connections are kept.
func TestHTTPConnectionsEndInOrder(t *testing.T) {
	for _, test := range []struct {
		name  string
		start func(*httptest.Server)
		leave func(*sites.Sockets, string)
	}{
		{"h1 stop", (*httptest.Server).Start, (*sites.Sockets).Stop},
		{"h2 stop", (*httptest.Server).StartTLS, (*sites.Sockets).Stop},
		{"h1 drain", (*httptest.Server).Start, (*sites.Sockets).Drain},
		{"h2 drain", (*httptest.Server).StartTLS, (*sites.Sockets).Drain},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newLeavingServer(t, test.start)
			idle, active := clientOf(s.Server), clientOf(s.Server)
			fetch(t, idle.Client, s.URL)
			answer := make(chan string)
			go func() {
				resp, err := active.Get(s.URL + "/slow")
				if err != nil {
					answer <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					body = []byte(err.Error())
				}
				answer <- string(body)
			}()
			<-s.begun

			test.leave(s.sockets, "a")
			idle.expectClosed(t)
			close(s.finish)
			if got := <-answer; got != "done" {
				t.Errorf("the request of before got %q", got)
			}
			active.expectClosed(t)
			if test.name[3:] == "drain" {
				late := clientOf(s.Server)
				fetch(t, late.Client, s.URL)
				late.expectClosed(t)
			}

			if err := s.sockets.Start(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			kept := clientOf(s.Server)
			for range 3 {
				fetch(t, kept.Client, s.URL)
			}
			select {
			case <-kept.closed:
				t.Error("after the start the connection is closed")
			default:
			}
		})
	}
}

// TestIdleHTTP2ConnectionGetsGoAway checks that an idle HTTP/2 connection gets GOAWAY, that a
// request on its way is answered, and that the connection is closed after the last one.
func TestIdleHTTP2ConnectionGetsGoAway(t *testing.T) {
	s := newLeavingServer(t, (*httptest.Server).StartTLS)
	c := newH2Client(t, s)
	c.ask(1, "/")
	c.until(1, "the first response")

	s.sockets.Drain("a")
	goAway := c.until(0, "GOAWAY").(*http2.GoAwayFrame)
	if goAway.ErrCode != http2.ErrCodeNo || goAway.LastStreamID != 1<<31-1 {
		t.Errorf("the client is told %v", goAway)
	}
	c.ask(3, "/")
	c.until(3, "the response to what was on its way")
	c.until(0, "the server's own GOAWAY")
	for {
		if _, err := c.ReadFrame(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the connection ends by %v", err)
			}
			return
		}
	}
}

// TestDrainSparesARequestThatIsComing checks that a drain does not cut off an HTTP/1 request
// that comes slowly.
func TestDrainSparesARequestThatIsComing(t *testing.T) {
	s := newLeavingServer(t, (*httptest.Server).Start)
	c := dialFrom(t, alias, s.Listener)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	answer := func(request ...string) {
		t.Helper()
		for _, part := range request {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil || !bytes.HasSuffix(buf[:n], []byte("done")) {
			t.Fatalf("the answer is %q, %v", buf[:n], err)
		}
	}
	answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	other := clientOf(s.Server)
	fetch(t, other.Client, s.URL)
	s.sockets.Drain("a")
	other.expectClosed(t) // so the drain is over, and has spared c
	answer("Host: a\r\n\r\n")
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after its response the connection reads %d bytes, %v", n, err)
	}
}

// h2Client speaks HTTP/2 frame by frame.
type h2Client struct {
	t *testing.T
	*http2.Framer
}

func newH2Client(t *testing.T, s *leavingServer) *h2Client {
	t.Helper()
	conn := tls.Client(dialFrom(t, alias, s.Listener), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c := &h2Client{t, http2.NewFramer(conn, net.Conn(conn))}
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *h2Client) ask(stream uint32, path string) {
	c.t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for name, value := range map[string]string{":method": "GET", ":scheme": "https", ":authority": "a", ":path": path} {
		if err := encoder.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
			c.t.Fatal(err)
		}
	}
	err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	if err != nil {
		c.t.Fatal(err)
	}
}

// until reads to the end of a stream, or to GOAWAY for stream 0.
func (c *h2Client) until(stream uint32, what string) http2.Frame {
	c.t.Helper()
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			if stream == 0 {
				return f
			}
		case *http2.DataFrame:
			if f.StreamID == stream && f.StreamEnded() {
				return f
			}
		}
	}
}
