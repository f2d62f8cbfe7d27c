package leanproxy

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// TestEndlessUpstream checks that vnic_proxy cuts off an upstream that never ends a part of
// its response, and needs no more memory for it than net/http. The lean proxy serves the
// requests without a body, and reverse_proxy those with one.
func TestEndlessUpstream(t *testing.T) {
	const chunks = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("x", 4000)
	for name, response := range map[string]testsite.Endless{
		"status line":               {Begin: "HTTP/1.1 200 ", Again: long},
		"status":                    {Begin: "HTTP/1.1 2", Again: "0000"},
		"version":                   {Begin: "HTTP/1.1", Again: "1111"},
		"empty lines":               {Again: "\r\n\r\n"},
		"field name":                {Begin: "HTTP/1.1 200 OK\r\n", Again: long},
		"field value":               {Begin: "HTTP/1.1 200 OK\r\nX: ", Again: long},
		"folded field":              {Begin: "HTTP/1.1 200 OK\r\nX: ", Again: "\r\n y"},
		"fields":                    {Begin: "HTTP/1.1 200 OK\r\n", Again: "X: y\r\n"},
		"fields of HTTP/1.0":        {Begin: "HTTP/1.0 200 OK\r\n", Again: "X: y\r\n"},
		"provisional responses":     {Again: "HTTP/1.1 102 Processing\r\n\r\n"},
		"hints":                     {Again: "HTTP/1.1 103 Early Hints\r\nLink: </" + long + ">\r\n\r\n"},
		"continue":                  {Again: "HTTP/1.1 100 Continue\r\n\r\n"},
		"fields of a hint":          {Begin: "HTTP/1.1 103 Early Hints\r\n", Again: "X: y\r\n"},
		"fields after hints":        {Begin: "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", Again: "X: y\r\n"},
		"chunk size":                {Begin: chunks, Again: "0000"},
		"chunk extension":           {Begin: chunks + "5;", Again: long},
		"chunk extensions":          {Begin: chunks, Again: "1;" + long + "\r\nx\r\n"},
		"extension of last chunk":   {Begin: chunks + "0;", Again: long},
		"chunk without an end":      {Begin: chunks + "1\r\nx", Again: long},
		"trailer name":              {Begin: chunks + "0\r\n", Again: long},
		"trailer value":             {Begin: chunks + "5\r\nhello\r\n0\r\nX: ", Again: long},
		"trailer":                   {Begin: chunks + "5\r\nhello\r\n0\r\n", Again: "X: y\r\n"},
		"trailer after an announce": {Begin: strings.Replace(chunks, "\r\n\r\n", "\r\nTrailer: X\r\n\r\n", 1) + "0\r\n", Again: "X: y\r\n"},
		"folded trailer":            {Begin: chunks + "0\r\nX: ", Again: "\r\n y"},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan testsite.Cost, 1)
			u := newScripted(t, func(c *peer) bool {
				ended <- response.Send(t, c.conn)
				return false
			})
			rig := newRig(t, []string{u.address}, []string{u.address}, "")
			for _, request := range []string{get, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"} {
				rig.fast.drop(t, request)
				if cost := await(t, ended, "the end of the upstream's connection"); !cost.Bounded() {
					t.Errorf("%.4s: %v", request, cost)
				}
			}
		})
	}
}

// drop sends a request, and reads the response to its end.
func (s side) drop(t *testing.T, request string) {
	t.Helper()
	conn := testsite.Dial(t, s.address)
	defer conn.Close()
	if _, err := io.WriteString(conn, testsite.Request(request, "Connection: close\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
		t.Error("the response does not end")
	}
}
