package leanproxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// unknownHeads has heads of responses that do not give the body's length. The lean proxy serves
// the first two, and leaves the others to reverse_proxy.
var unknownHeads = []struct{ name, head, framing string }{
	{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"},
	{"until close", "HTTP/1.1 200 OK\r\n\r\n", "close"},
	{"chunks, told to close", "HTTP/1.1 404 Not Found\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"},
	{"chunks after a hint", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"},
	{"chunks with a trailer announced", "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"},
	{"chunks, lines by LF", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "chunks"},
	{"chunks, long head", "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", maxHead) + "\r\nTransfer-Encoding: chunked\r\n\r\n", "chunks"},
	{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", "close"},
	{"empty length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "close"},
}

// unknownBodies has what comes after the head: together with it, and when the client has it. If
// the first piece is not the last, it races with the head, which reverse_proxy flushes by a
// timer.
var unknownBodies = []struct {
	name, framing string
	with, later   string
	racing        bool
}{
	{"empty", "chunks", "0\r\n\r\n", "", false},
	{"empty with a trailer", "chunks", "0\r\nX-Sum: 1\r\n\r\n", "", false},
	{"whole", "chunks", "6\r\n<html>\r\n0\r\n\r\n", "", false},
	{"whole with a trailer", "chunks", "6\r\n<html>\r\n0\r\nX-Sum: 1\r\n\r\n", "", false},
	{"wrong", "chunks", "zz\r\n", "", false},
	{"empty later", "chunks", "", "0\r\n\r\n", false},
	{"later", "chunks", "", "6\r\n<html>\r\n0\r\n\r\n", false},
	{"later with a trailer", "chunks", "", "6\r\n<html>\r\n0\r\nX-Sum: 1\r\n\r\n", false},
	{"after the line of the chunk", "chunks", "6\r\n", "<html>\r\n0\r\n\r\n", false},
	{"in the midst of a chunk", "chunks", "6\r\n<ht", "ml>\r\n0\r\n\r\n", false},
	{"a chunk, the rest later", "chunks", "6\r\n<html>\r\n", "1\r\n>\r\n0\r\n\r\n", true},
	{"end in parts", "chunks", "0\r\n", "\r\n", false},
	{"cut off", "chunks", "", "6\r\n<ht", false},
	{"later", "close", "", "<html>", false},
	{"a part, the rest later", "close", "<ht", "ml>", true},
}

// TestUnknownLength checks that a response of unknown length is the same by either layer, in
// each protocol of a client, and that the client gets the head before there is a body.
func TestUnknownLength(t *testing.T) {
	had := make(chan struct{}, 1) // the client has the head
	u := newScripted(t, func(c *peer) bool {
		var h, b int
		if _, err := fmt.Sscanf(c.request.URL.Path, "/%d/%d", &h, &b); err != nil {
			return false // the request is for something else
		}
		body := unknownBodies[b]
		c.write(unknownHeads[h].head + body.with)
		if body.later != "" {
			<-had
			c.write(body.later)
		}
		return unknownHeads[h].framing == "chunks" && body.name != "cut off"
	})
	for _, client := range []struct {
		name, more string
		secure     bool
		protocols  func(*http.Protocols)
	}{
		{"HTTP/1.1", "", false, func(p *http.Protocols) { p.SetHTTP1(true) }},
		{"HTTP/1.1 over TLS", "", true, func(p *http.Protocols) { p.SetHTTP1(true) }},
		{"HTTP/2 over TLS", "", true, func(p *http.Protocols) { p.SetHTTP2(true) }},
		{"HTTP/2", `"protocols": ["h1", "h2c"],`, false, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }},
	} {
		t.Run(client.name, func(t *testing.T) {
			rig := newProtocolsRig(t, u.address, client.more, client.secure)
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}, DisableCompression: true, Protocols: new(http.Protocols)}
			client.protocols(transport.Protocols)
			defer transport.CloseIdleConnections()
			for h, head := range unknownHeads {
				for b, body := range unknownBodies {
					if head.framing != body.framing {
						continue
					}
					ask := func(s side) string {
						return askUnknown(t, transport, s.url(client.secure)+fmt.Sprintf("/%d/%d", h, b), had, body.later != "")
					}
					for range 5 {
						got, want := ask(rig.fast), ask(rig.slow)
						for tries := 0; got != want && tries < 100; tries++ {
							if body.racing {
								got = ask(rig.fast)
							}
							want = ask(rig.slow)
						}
						if got != want {
							t.Errorf("%s, %s: the lean proxy answered\n%s\nreverse_proxy\n%s", head.name, body.name, got, want)
							break
						}
					}
				}
			}
		})
	}
}

func newProtocolsRig(t *testing.T, upstream, more string, secure bool) *rig {
	t.Helper()
	if secure {
		return newServersRig(t, upstream, "", true)
	}
	r := &rig{fast: side{testsite.FreeAddress(t)}, slow: side{testsite.FreeAddress(t)}}
	r.load(t, fmt.Sprintf(`"http": {"servers": {"fast": %s, "slow": %s}}`,
		server(r.fast.address, more, []string{upstream}, ""), server(r.slow.address, more, []string{upstream}, `"slow": true,`)))
	return r
}

// askUnknown requests a response, and returns it as text once all has come.
func askUnknown(t *testing.T, transport *http.Transport, url string, had chan<- struct{}, later bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testsite.Patience/4)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "localhost"
	response, err := transport.RoundTrip(request)
	if later {
		had <- struct{}{}
	}
	if err != nil {
		return err.Error()
	}
	defer transport.CloseIdleConnections() // because http1 serves a listener only from its second connection on
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	for _, name := range []string{"Date", "X-Path", "X-Shown", "X-Long"} {
		response.Header.Del(name)
	}
	text := fmt.Sprint(response.Proto, response.Status, response.Header, response.ContentLength, response.TransferEncoding, string(body), response.Trailer, err)
	return streamNumber.ReplaceAllString(text, "")
}

var streamNumber = regexp.MustCompile(`stream ID \d+`)
