package leanproxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// layersCase is a client's request, and the upstream's answer to it. The
// connection to the client closes after the response.
type layersCase struct {
	name    string
	request string // without Host and Connection: close, which the test adds
	answer  script
	path    string // the layer that serves it; empty: timing decides
}

func answer(pieces ...string) script {
	return func(c *peer) bool {
		c.write(pieces...)
		return true
	}
}

func answerAndClose(pieces ...string) script {
	return func(c *peer) bool {
		c.write(pieces...)
		return false
	}
}

const get = "GET / HTTP/1.1\r\n"

var layersCases = []layersCase{
	{"length", get, answer("HTTP/1.1 200 OK\r\nDate: today\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"), "fast"},
	{"length 0", get, answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "fast"},
	{"body in pieces", get, answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "hello", "world"), "fast"},
	{"body of unknown type", get, answer("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<html><body></body><"), "fast"},
	{"long body", get, answer("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n", strings.Repeat("0123456789", 30000)), "fast"},
	{"long body, closed", get, answerAndClose("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n", strings.Repeat("0123456789", 30000)), "fast"},
	{"HEAD", "HEAD / HTTP/1.1\r\n", answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"), "fast"},
	{"HEAD without length", "HEAD / HTTP/1.1\r\n", answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"), "fast"},
	{"HEAD of chunks", "HEAD / HTTP/1.1\r\n", answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"), "fast"},
	{"204", get, answer("HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"), "fast"},
	{"304", get + "If-None-Match: \"x\"\r\n", answer("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n"), "fast"},
	{"404", get, answer("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"), "fast"},
	{"status without reason", get, answer("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), "fast"},
	{"odd status", get, answer("HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"), "fast"},
	{"redirection", get, answer("HTTP/1.1 302 Found\r\nLocation: /x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"), "fast"},
	{"chunks", get, answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n", "5;x=y\r\nworld\r\n", "0\r\n\r\n"), "fast"},
	{"chunks at once", get, answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "fast"},
	{"long chunks", get, answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: Chunked\r\n\r\n", "186a0\r\n"+strings.Repeat("0123456789", 10000)+"\r\n", "0\r\n\r\n"), "fast"},
	{"until close", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", "hello", "world"), "fast"},
	{"events", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: 1\n\n", "data: 2\n\n"), "fast"},
	{"events with a length", get, answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n", "data: 1\n\n"), "reverse_proxy"},
	{"trailer", get + "TE: trailers\r\n", answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), "reverse_proxy"},
	{"trailer not asked for", get, answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), "reverse_proxy"},
	{"trailer not announced", get, answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"), "fast"},
	{"provisional", get, answer("HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"many provisional", get, answer(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20) + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"100 unasked", get, answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"101 unasked", get, answerAndClose("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello"), "reverse_proxy"},
	{"huge head", get, answer("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Long: "+strings.Repeat("x", 1000)+"\r\n", 100) + "Content-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"many fields", get, answer("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 100) + "Content-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"head in pieces", get, answer("HTTP/1.1 200", " OK\r\nContent-", "Length: 5\r\n\r\nhel", "lo"), ""},
	{"HTTP/1.0", get, answerAndClose("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"), "reverse_proxy"},
	{"lines by LF", get, answer("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"), "reverse_proxy"},
	{"field after LF", get, answer("HTTP/1.1 200 OK\r\nX:\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"folded field", get, answer("HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"space before the colon", get, answer("HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"two lengths alike", get, answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"two lengths", get, answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), "reverse_proxy"},
	{"length and chunks", get, answer("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "reverse_proxy"},
	{"negative length", get, answer("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"), "reverse_proxy"},
	{"signed length", get, answer("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"), "reverse_proxy"},
	{"empty length", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: \r\n\r\nhello"), "reverse_proxy"},
	{"unknown coding", get, answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "reverse_proxy"},
	{"204 of chunks", get, answerAndClose("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"), "reverse_proxy"},
	{"control character", get, answer("HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"hop by hop", get, answer("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nProxy-Authenticate: x\r\nAlt-Svc: h3\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"), "fast"},
	{"named hop by hop", get, answer("HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nX-Secret: 1\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"pragma", get, answer("HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 5\r\n\r\nhello"), "reverse_proxy"},
	{"names in lower case", get, answer("HTTP/1.1 200 OK\r\nserver: x\r\nx-some-thing: y\r\nvia: 1.0 z\r\ncontent-length: 5\r\n\r\nhello"), "fast"},
	{"no HTTP", get, answerAndClose("SSH-2.0-x\r\n"), "reverse_proxy"},
	{"nothing", get, answerAndClose(), "reverse_proxy"},
	{"half a head", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-"), "reverse_proxy"},
	{"body cut short", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), "fast"},
	{"chunk cut short", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwo"), "fast"},
	{"chunks without an end", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), "fast"},
	{"last chunk cut short", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"), "fast"},
	{"trailer cut short", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n"), "fast"},
	{"wrong trailer", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nwrong\r\n\r\n"), "fast"},
	{"wrong chunk", get, answerAndClose("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"), "fast"},
	{"reset", get, reset(""), "reverse_proxy"},
	{"reset in the body", get, reset("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhello"), "fast"},
	{"more than the length", get, answerAndClose("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"), "fast"},
	{"body after 304", get, answerAndClose("HTTP/1.1 304 Not Modified\r\nConnection: close\r\nContent-Length: 4\r\n\r\nevil"), "fast"},

	{"fields of a request", get + "Accept: */*\r\nUser-Agent: x\r\nCookie: a=1\r\nX-b: 1\r\nX-B: 2\r\nAccept-Encoding: gzip\r\nVia: 1.0 a\r\nRange: bytes=0-1\r\n", ok, "fast"},
	{"hop by hop fields", get + "Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\n", ok, "fast"},
	{"named hop by hop fields", get + "Connection: X-Secret\r\nX-Secret: 1\r\n", ok, "reverse_proxy"},
	{"forged fields", get + "Forwarded: for=x\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: x\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n", ok, "fast"},
	{"upgrade", get + "Connection: Upgrade\r\nUpgrade: websocket\r\n", ok, "reverse_proxy"},
	{"expect", "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", ok, "reverse_proxy"},
	{"TE", get + "TE: trailers\r\n", ok, "reverse_proxy"},
	{"empty fields", get + "X:\r\nUser-Agent:\r\n", ok, "fast"},
	{"query", "GET /a%2Fb/../c%20d;e?x=1&y=%2F+| HTTP/1.1\r\n", ok, "fast"},
	{"empty query", "GET /? HTTP/1.1\r\n", ok, "fast"},
	{"two slashes", "GET //x//y HTTP/1.1\r\n", ok, "fast"},
	{"odd target", "GET /ä\x7f HTTP/1.1\r\n", ok, "fast"},
	{"absolute target", "GET http://localhost/x HTTP/1.1\r\n", ok, "fast"},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n", ok, "reverse_proxy"},
	{"empty POST", "POST / HTTP/1.1\r\nContent-Length: 0\r\n", ok, "fast"},
	{"DELETE", "DELETE / HTTP/1.1\r\n", ok, "fast"},
	{"other method", "PURGE / HTTP/1.1\r\n", ok, "reverse_proxy"},
	{"POST with a length", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", echoBody, "reverse_proxy"},
	{"POST in chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", echoBody, "reverse_proxy"},
	{"POST with a trailer", "POST / HTTP/1.1\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", echoBody, "reverse_proxy"},
	{"early answer", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello", answerAndClose("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), "reverse_proxy"},
}

var ok = answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

func echoBody(c *peer) bool {
	var body []byte
	var err error
	if c.request.Body != nil {
		body, err = io.ReadAll(c.request.Body)
	}
	text := fmt.Sprintf("%q %v %v", body, err, c.request.Trailer)
	c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text))
	return true
}

// reset answers, and then resets the connection.
func reset(text string) script {
	return func(c *peer) bool {
		c.write(text)
		if c.conn != nil {
			_ = c.conn.SetLinger(0)
		}
		return false
	}
}

// TestLayers checks that both layers send the same bytes to the client, and to the upstream.
func TestLayers(t *testing.T) {
	for _, test := range layersCases {
		t.Run(test.name, func(t *testing.T) {
			fastUpstream, slowUpstream := newScripted(t, test.answer), newScripted(t, test.answer)
			rig := newRig(t, []string{fastUpstream.address}, []string{slowUpstream.address}, "")
			for _, kept := range []bool{false, true} { // whether the second request may use a kept connection
				fast, slow := rig.fast.ask(t, test.request), rig.slow.ask(t, test.request)
				if fast.path != test.path && fast.path != "" && test.path != "" {
					t.Errorf("kept %v: it went by %s", kept, fast.path)
				}
				if fast.String() != slow.String() {
					t.Errorf("kept %v: the lean proxy answered\n%s\nreverse_proxy\n%s", kept, fast, slow)
				}
				fastSaw, slowSaw := fastUpstream.take(), slowUpstream.take()
				if !slices.Equal(fastSaw, slowSaw) {
					t.Errorf("kept %v: by the lean proxy the upstream got\n%q\nby reverse_proxy\n%q", kept, fastSaw, slowSaw)
				}
			}
		})
	}
}

// answered is what a client got.
type answered struct {
	path string // the layer that answered
	head string
	body string
	end  string // the trailer, and the error
}

func (a answered) String() string {
	return fmt.Sprintf("%s%.300q (%d bytes) %s", a.head, a.body, len(a.body), a.end)
}

var (
	pathField  = regexp.MustCompile(`X-Path: (.*)\r\n`)
	otherField = regexp.MustCompile(`(Date|X-Path|X-Shown): .*\r\n`) // fields that may differ
)

// ask sends a request unchanged, and reads all that comes back.
func (s side) ask(t *testing.T, request string) (a answered) {
	t.Helper()
	conn := testsite.Dial(t, s.address)
	defer conn.Close()
	if _, err := io.WriteString(conn, testsite.Request(request, "Connection: close\r\n")); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	r := bufio.NewReader(io.TeeReader(conn, &seen))
	method, _, _ := strings.Cut(request, " ")
	for final := false; !final; {
		begin := seen.Len() - r.Buffered()
		response, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			a.end = err.Error()
			break
		}
		a.head += seen.String()[begin : seen.Len()-r.Buffered()]
		final = response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols
		body, err := io.ReadAll(response.Body)
		a.body, a.end = string(body), fmt.Sprint(response.Trailer, err)
	}
	if path := pathField.FindStringSubmatch(a.head); path != nil {
		a.path = path[1]
	}
	a.head = otherField.ReplaceAllString(a.head, "")
	return a
}
