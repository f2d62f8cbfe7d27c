package leanproxy

import (
	"bufio"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzResponseHead checks that the lean proxy reads a plain head as net/http does.
func FuzzResponseHead(f *testing.F) {
	for _, test := range layersCases {
		var seen recorder
		test.answer(&peer{Writer: &seen, request: new(http.Request)})
		f.Add(seen.String(), test.request)
	}
	f.Fuzz(func(t *testing.T, response, request string) {
		const end = "\r\n\r\n"
		i := strings.Index(response, end)
		if i < 0 {
			return
		}
		method, _, _ := strings.Cut(request, " ")
		var head responseHead
		if !head.parse(response[:i+len(end)], method) {
			return
		}
		want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(response[:i+len(end)])), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if head.status != want.StatusCode || head.statusText != want.Status || head.close != want.Close {
			t.Errorf("%d %q close %v, net/http has %d %q close %v", head.status, head.statusText, head.close, want.StatusCode, want.Status, want.Close)
		}
		if length := bodyLength(want); head.length != length {
			t.Errorf("a body of length %d, net/http has %d", head.length, length)
		}
		fields := make(http.Header)
		for _, field := range head.fields {
			fields[field.name] = append(fields[field.name], field.value)
		}
		if !maps.EqualFunc(fields, want.Header, slices.Equal) {
			t.Errorf("fields %q, net/http has %q", fields, want.Header)
		}
	})
}

// bodyLength returns the body's length as net/http reads it.
func bodyLength(response *http.Response) int64 {
	switch {
	case response.Body == http.NoBody:
		return 0
	case slices.Contains(response.TransferEncoding, "chunked"):
		return chunked
	case response.ContentLength < 0:
		return untilClose
	}
	return response.ContentLength
}

// recorder is a peer that only records what it gets.
type recorder struct{ strings.Builder }

func TestResponseFields(t *testing.T) {
	const text = "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nX: y\r\n\r\n"
	var head responseHead
	if !head.parse(text, http.MethodGet) {
		t.Fatal("it is not plain")
	}
	for name, want := range map[string]string{"Set-Cookie": "a,b", "X": "y"} {
		if got, ok := head.value(name); got != want || !ok {
			t.Errorf("%s is %q, %v", name, got, ok)
		}
	}
	if got, ok := head.value("None"); ok {
		t.Errorf("a field that is not there is %q", got)
	}
}
