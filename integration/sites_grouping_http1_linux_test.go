package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// attempt is something that a client sends to a front, written by hand.
type attempt struct {
	name string
	sent string
}

const host = "Host: www.example.com\r\n"

// get is a request with further header lines.
func get(target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\r\n" + host + strings.Join(append(lines, "", ""), "\r\n")
}

// post is a request with further header lines, and with a body.
func post(body string, lines ...string) string {
	return "POST /test1/ HTTP/1.1\r\n" + host + strings.Join(append(lines, "", ""), "\r\n") + body
}

// secret is a request that no group is granted: no segment is ever to see it.
const secret = "GET /secret HTTP/1.1\r\n" + host + "\r\n"

var http1Attempts = []attempt{
	// The groups, as they are meant.
	{"`/test1/`", get("/test1/")},
	{"`/test2/` after `/test1/` on one connection", get("/test1/") + get("/test2/")},
	{"no group's path", get("/")},
	{"a prefix of a group's name", get("/test")},
	{"a longer name than a group's", get("/test1x/")},
	// Paths.
	{"dot segments out of a group", get("/test1/../secret")},
	{"dot segments from group to group", get("/test1/../test2/x")},
	{"encoded dot segments", get("/test1/%2e%2e/test2/x")},
	{"encoded dot segments, twice", get("/test1/%252e%252e/test2/x")},
	{"an encoded slash", get("/test1/..%2ftest2/x")},
	{"an encoded slash, out of a group", get("/test1%2f..%2fsecret")},
	{"an encoded slash for the group's own", get("/test1%2fx")},
	{"a backslash", get(`/test1/..\test2/x`)},
	{"an encoded backslash", get("/test1/..%5ctest2/x")},
	{"double slashes", get("//test2/x")},
	{"double slashes before dots", get("/test1//../secret")},
	{"a path parameter", get("/test1/..;/test2/x")},
	{"another case", get("/TEST2/x")},
	{"an encoded letter", get("/%74est2/x")},
	{"an encoded NUL", get("/test1/%00/../../test2/x")},
	{"a bad escape", get("/test1/%zz")},
	{"a fragment", get("/test1/#/../../test2/x")},
	{"a query with a path", get("/test1/?/../test2/x")},
	{"a space in the target", get("/test1/ /test2/x")},
	{"a tab in the target", get("/test1/\t/test2/x")},
	// Targets that are no paths.
	{"an absolute target", get("http://www.example.com/test2/x")},
	{"an absolute target of another host", get("http://other.example/test2/x")},
	{"an absolute target that names segment b", get("http://192.168.60.1/test2/x")},
	{"an absolute target with another scheme", get("gopher://www.example.com/test2/x")},
	{"an absolute target with dots", get("http://www.example.com/test1/../secret")},
	{"`CONNECT` to segment b", "CONNECT 192.168.60.1:80 HTTP/1.1\r\nHost: 192.168.60.1:80\r\n\r\n"},
	{"`CONNECT` with a path", "CONNECT /test1/ HTTP/1.1\r\n" + host + "\r\n"},
	{"`OPTIONS *`", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n"},
	{"no slash at the start", get("test2/x")},
	// Hosts.
	{"another Host", "GET /test2/x HTTP/1.1\r\nHost: other.example\r\n\r\n"},
	{"segment b's address as Host", "GET /test2/x HTTP/1.1\r\nHost: 192.168.60.1\r\n\r\n"},
	{"two Hosts", get("/test1/", "Host: other.example")},
	{"no Host", "GET /test1/ HTTP/1.1\r\n\r\n"},
	{"Host with a path", "GET /secret HTTP/1.1\r\nHost: www.example.com/test1/\r\n\r\n"},
	{"Host with user information", "GET /test1/ HTTP/1.1\r\nHost: www.example.com@192.168.60.1\r\n\r\n"},
	// Request smuggling.
	{"CL.TE", post("0\r\n\r\n"+secret, "Content-Length: "+strconv.Itoa(5+len(secret)), "Transfer-Encoding: chunked")},
	{"TE.CL", post(fmt.Sprintf("%x\r\n", len(secret))+secret+"\r\n0\r\n\r\n", "Content-Length: 4", "Transfer-Encoding: chunked")},
	{"TE.TE, two codings", post("0\r\n\r\n"+secret, "Transfer-Encoding: chunked", "Transfer-Encoding: identity")},
	{"a list of codings", post("0\r\n\r\n"+secret, "Transfer-Encoding: identity, chunked")},
	{"an unknown coding", post("0\r\n\r\n"+secret, "Transfer-Encoding: xchunked")},
	{"a space before the colon", post("0\r\n\r\n"+secret, "Transfer-Encoding : chunked")},
	{"a vertical tab in the coding", post("0\r\n\r\n"+secret, "Transfer-Encoding: \vchunked")},
	{"chunked under HTTP/1.0", "POST /test1/ HTTP/1.0\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + secret},
	{"Content-Length twice, the same", post("hello", "Content-Length: 5", "Content-Length: 5")},
	{"Content-Length twice, not the same", post("hello"+secret, "Content-Length: 5", "Content-Length: 51")},
	{"a list of lengths", post("hello", "Content-Length: 5, 5")},
	{"a signed length", post("hello", "Content-Length: +5")},
	{"a negative length", post("hello", "Content-Length: -5")},
	{"a length in hexadecimal", post("hello", "Content-Length: 0x5")},
	{"a length in words of another field", post("hello", "Content_Length: 99", "Content-Length: 5")},
	{"a body with GET", "GET /test1/ HTTP/1.1\r\n" + host + "Content-Length: " + strconv.Itoa(len(secret)) + "\r\n\r\n" + secret},
	{"a folded Transfer-Encoding", post("0\r\n\r\n"+secret, "Transfer-Encoding:", " chunked")},
	{"a folded field that hides a length", post("hello", "X-A: b", " Content-Length: 99", "Content-Length: 5")},
	{"a fold before the first field", "GET /test1/ HTTP/1.1\r\n Host: other.example\r\n" + host + "\r\n"},
	{"bare LF ends lines", "GET /test1/ HTTP/1.1\nHost: www.example.com\n\n"},
	{"bare LF in a field", post("hello", "X-A: b\nContent-Length: 5")},
	{"bare CR in a field", get("/test1/", "X-A: b\rContent-Length: 5")},
	{"NUL in a field", get("/test1/", "X-A: b\x00c")},
	{"an empty field name", get("/test1/", ": chunked")},
	{"a chunk extension", post("5;a=b\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked")},
	{"a chunk extension with a bare LF", post("5;\nhello\r\n0\r\n\r\n"+secret, "Transfer-Encoding: chunked")},
	{"a chunk size that overflows", post("ffffffffffffffff5\r\nhello\r\n0\r\n\r\n"+secret, "Transfer-Encoding: chunked")},
	{"a chunk size with a prefix", post("0x5\r\nhello\r\n0\r\n\r\n"+secret, "Transfer-Encoding: chunked")},
	{"a chunk longer than its size", post("3\r\nhello\r\n0\r\n\r\n"+secret, "Transfer-Encoding: chunked")},
	{"a length in the trailer", post("0\r\nContent-Length: 51\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: Content-Length")},
	{"`Expect: 100-continue` with the body at once", post("hello", "Content-Length: 5", "Expect: 100-continue")},
	{"an upgrade to h2c", get("/test1/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")},
	{"an upgrade with a body", post(secret, "Connection: Upgrade", "Upgrade: websocket", "Content-Length: "+strconv.Itoa(len(secret)))},
	{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"HTTP/0.9", "GET /test1/\r\n\r\n"},
	{"HTTP/1.2", "GET /test1/ HTTP/1.2\r\n" + host + "\r\n"},
	// What a client says about its way.
	{"X-Forwarded-For, -Host and -Proto", get("/test1/", "X-Forwarded-For: 192.168.60.1", "X-Forwarded-Host: other.example", "X-Forwarded-Proto: gopher")},
	{"X-Forwarded-For twice", get("/test1/", "X-Forwarded-For: 192.168.60.1", "x-forwarded-for: 192.168.40.1")},
	{"X_Forwarded_For, with underscores", get("/test1/", "X_Forwarded_For: 192.168.60.1", "X-Forwarded_Proto: gopher")},
	{"Forwarded and X-Real-IP", get("/test1/", "Forwarded: for=192.168.60.1;host=other.example", "X-Real-IP: 192.168.60.1")},
	{"X-Forwarded-Port, -Prefix and -Server", get("/test1/", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /test2", "X-Forwarded-Server: b")},
	{"`Connection` names X-Forwarded-For", get("/test1/", "Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto")},
	{"X-Forwarded-For in a trailer", post("0\r\nX-Forwarded-For: 192.168.60.1\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Forwarded-For")},
	{"a trailer of its own", post("0\r\nX-Sum: 1\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Sum")},
	{"another path in a field", get("/test1/", "X-Original-URL: /test2/x", "X-Rewrite-URL: /test2/x", "X-HTTP-Method-Override: PUT")},
}

// Nothing that a client writes in HTTP/1.1 reaches a segment that the Caddyfile
// does not grant it.
func TestGroupingHTTP1(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		g := newGrouping(t, datapath)
		var table [][]string
		for _, a := range http1Attempts {
			plain := g.try(t, a, "http", g.dial)
			secure := g.try(t, a, "https", func() (net.Conn, error) { return g.dialTLS("http/1.1") })
			if secure != plain {
				plain += "; over TLS " + secure
			}
			table = append(table, []string{a.name, plain})
		}
		wantTable(t, "HTTP/1.1 to the front", table)
	})
}

// try makes an attempt, and tells what was answered and what reached a segment.
func (g *grouping) try(t *testing.T, a attempt, scheme string, dial func() (net.Conn, error)) string {
	t.Helper()
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, a.sent); err != nil {
		t.Errorf("%s: %v", a.name, err)
	}
	answers := statuses(conn, a.most())
	before := t.Failed()
	result := strings.Join(append(answers, g.arrived(t, scheme)...), ", ")
	if t.Failed() && !before {
		t.Errorf("that was %s over %s: %s", a.name, scheme, result)
	}
	return result
}

// most is how many responses there can be: one to each request that a front could
// see in what is sent, and one that asks for more.
func (a attempt) most() int {
	return max(1, strings.Count(a.sent, " HTTP/1.")) + strings.Count(a.sent, "100-continue\r\n")
}

// statuses are those of the responses on a connection, until no more come.
func statuses(conn net.Conn, most int) (codes []string) {
	reader := bufio.NewReader(conn)
	for patience := 5 * time.Second; len(codes) < most; patience = time.Second {
		conn.SetReadDeadline(time.Now().Add(patience))
		resp, err := http.ReadResponse(reader, nil)
		if err != nil && len(codes) == 0 {
			return []string{"no answer"}
		}
		if err != nil {
			return codes
		}
		codes = append(codes, strconv.Itoa(resp.StatusCode))
		io.Copy(io.Discard, resp.Body)
	}
	return codes
}
