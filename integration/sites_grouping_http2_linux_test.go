package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// attempt2 is a request in HTTP/2 whose header list is written by hand, as
// "name: value" each, and what follows it.
type attempt2 struct {
	name   string
	header []string
	data   string
}

// http2Request is a proper request with some fields of its own, which stand in for
// the usual ones of the same names.
func http2Request(fields ...string) (header []string) {
	for _, usual := range []string{":method: GET", ":scheme: https", ":authority: www.example.com", ":path: /test1/"} {
		name, _, _ := strings.Cut(usual[1:], ":")
		taken := false
		for _, f := range fields {
			taken = taken || strings.HasPrefix(f, ":"+name+":")
		}
		if !taken {
			header = append(header, usual)
		}
	}
	return append(header, fields...)
}

var http2Attempts = []attempt2{
	{"`/test1/`", http2Request(), ""},
	{"`/test2/`", http2Request(":path: /test2/"), ""},
	{"no group's path", http2Request(":path: /secret"), ""},
	{"dot segments from group to group", http2Request(":path: /test1/../test2/x"), ""},
	{"dot segments out of a group", http2Request(":path: /test1/../secret"), ""},
	{"an encoded slash", http2Request(":path: /test1/..%2ftest2/x"), ""},
	{"`:path` twice", append(http2Request(), ":path: /test2/x"), ""},
	{"`:path` after a field", append([]string{":method: GET", ":scheme: https", ":authority: www.example.com", "x-a: b"}, ":path: /test1/"), ""},
	{"no `:path`", []string{":method: GET", ":scheme: https", ":authority: www.example.com"}, ""},
	{"an empty `:path`", http2Request(":path: "), ""},
	{"`:path` without a slash", http2Request(":path: test2/x"), ""},
	{"`:path` is `*`", http2Request(":path: *"), ""},
	{"`:path` is absolute", http2Request(":path: http://192.168.60.1/test2/x"), ""},
	{"`:path` with a space", http2Request(":path: /test1/ HTTP/1.1"), ""},
	{"`:path` with CR LF", http2Request(":path: /test1/ HTTP/1.1\r\nHost: x\r\n\r\nGET /secret HTTP/1.1\r\nX: "), ""},
	{"`:path` with LF", http2Request(":path: /test1/\nx: y"), ""},
	{"`:path` with NUL", http2Request(":path: /test1/\x00"), ""},
	{"`:path` in upper case", append(http2Request(), ":PATH: /test2/x"), ""},
	{"an unknown pseudo-header", append([]string{":x-path: /test2/x"}, http2Request()...), ""},
	{"`:status`", append([]string{":status: 200"}, http2Request()...), ""},
	{"`:method` twice", append(http2Request(), ":method: POST"), ""},
	{"`:method` with a request line", http2Request(":method: GET /secret HTTP/1.1\r\nX: "), ""},
	{"`:method` with spaces", http2Request(":method: GET /secret HTTP/1.1 "), ""},
	{"`:scheme` is another", http2Request(":scheme: http"), ""},
	{"`:scheme` with a host", http2Request(":scheme: https://192.168.60.1/test2/?"), ""},
	{"`:authority` twice", append(http2Request(), ":authority: other.example"), ""},
	{"`:authority` of another host", http2Request(":authority: other.example"), ""},
	{"`:authority` is segment b's address", http2Request(":authority: 192.168.60.1", ":path: /test2/x"), ""},
	{"`:authority` with a path", http2Request(":authority: www.example.com/test2/?", ":path: /secret"), ""},
	{"`:authority` with CR LF", http2Request(":authority: www.example.com\r\nX: y"), ""},
	{"`host` differs from `:authority`", http2Request("host: other.example"), ""},
	{"`host` alone", []string{":method: GET", ":scheme: https", ":path: /test1/", "host: www.example.com"}, ""},
	{"`host` twice, alone", []string{":method: GET", ":scheme: https", ":path: /test1/", "host: www.example.com", "host: other.example"}, ""},
	{"no host at all", []string{":method: GET", ":scheme: https", ":path: /test1/"}, ""},
	{"`CONNECT` to segment b", []string{":method: CONNECT", ":authority: 192.168.60.1:80"}, ""},
	{"`CONNECT` with `:protocol` (RFC 8441)", http2Request(":method: CONNECT", ":protocol: websocket"), ""},
	{"a field name in upper case", http2Request("X-A: b"), ""},
	{"a field name with a colon", http2Request("x:a: b"), ""},
	{"a field name with CR LF", http2Request("x-a: b\r\nx-forwarded-for: 192.168.60.1\r\n"), ""},
	{"a field with CR LF", http2Request("x-a: b\r\ntransfer-encoding: chunked"), ""},
	{"a field with NUL", http2Request("x-a: b\x00c"), ""},
	{"H2.TE", http2Request(":method: POST", "transfer-encoding: chunked"), "0\r\n\r\n" + secret},
	{"H2.CL, too short", http2Request(":method: POST", "content-length: 3"), secret},
	{"H2.CL, too long", http2Request(":method: POST", "content-length: 99"), "hello"},
	{"H2.CL, twice", http2Request(":method: POST", "content-length: 5", "content-length: 6"), "hello"},
	{"H2.CL, signed, and no body", http2Request(":method: POST", "content-length: +5"), ""},
	{"a whole request for a body", http2Request(":method: POST"), secret},
	{"`connection` names x-forwarded-for", http2Request("connection: x-forwarded-for"), ""},
	{"`upgrade: h2c`", http2Request("upgrade: h2c"), ""},
	{"`te` is not `trailers`", http2Request("te: chunked"), ""},
	{"x-forwarded-for, -host and -proto", http2Request("x-forwarded-for: 192.168.60.1", "x-forwarded-host: other.example", "x-forwarded-proto: gopher"), ""},
	{"x_forwarded_for, with underscores", http2Request("x_forwarded_for: 192.168.60.1", "x-forwarded_proto: gopher"), ""},
	{"forwarded and x-real-ip", http2Request("forwarded: for=192.168.60.1;host=other.example", "x-real-ip: 192.168.60.1"), ""},
}

// Nothing that a client writes in HTTP/2 reaches a segment that the Caddyfile does
// not grant it.
func TestGroupingHTTP2(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		g := newGrouping(t, datapath)
		var table [][]string
		for _, a := range http2Attempts {
			before := t.Failed()
			result := strings.Join(append([]string{g.try2(t, a)}, g.arrived(t, "https")...), ", ")
			if t.Failed() && !before {
				t.Errorf("that was %s: %s", a.name, result)
			}
			table = append(table, []string{a.name, result})
		}
		wantTable(t, "HTTP/2 to the front", table)
	})
}

// try2 makes an attempt on a connection of its own, and tells what was answered.
func (g *grouping) try2(t *testing.T, a attempt2) string {
	t.Helper()
	conn, err := g.dialTLS("h2")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.AllowIllegalWrites = true
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: encode(t, a.header), EndHeaders: true, EndStream: a.data == "",
	}); err != nil {
		t.Fatal(err)
	}
	if a.data != "" {
		if err := framer.WriteData(1, true, []byte(a.data)); err != nil {
			t.Fatal(err)
		}
	}
	return answer2(t, conn, framer)
}

// encode compresses a header list.
func encode(t *testing.T, header []string) []byte {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range header {
		i := strings.Index(f[1:], ": ") + 1 // a pseudo-header's own colon is no end
		if err := encoder.WriteField(hpack.HeaderField{Name: f[:i], Value: f[i+2:]}); err != nil {
			t.Fatal(err)
		}
	}
	return block.Bytes()
}

// answer2 is how the front answers stream 1: by a status, or by an end.
func answer2(t *testing.T, conn net.Conn, framer *http2.Framer) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "no answer"
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("%s on the stream", frame.ErrCode)
		case *http2.GoAwayFrame:
			return fmt.Sprintf("%s on the connection", frame.ErrCode)
		}
	}
}
