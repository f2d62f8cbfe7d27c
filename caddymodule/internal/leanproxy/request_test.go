package leanproxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// FuzzRequestHead checks that the lean proxy writes exactly one request to an upstream, the
// client's, without anything that could count as a body or as a second request.
func FuzzRequestHead(f *testing.F) {
	for _, test := range layersCases {
		line, rest, _ := strings.Cut(test.request, "\r\n")
		f.Add(line+"\r\nHost: localhost\r\n"+rest+"\r\n", "", "")
	}
	f.Add("GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", "X-Set", "by a handler\r\nX: y")
	f.Add("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "Content-Length", "5")
	f.Add("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "transfer-encoding", "chunked")
	f.Add("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "X: y\r\nX", "")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		asked, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		asked = asked.WithContext(newServedRequest().context)
		asked.RemoteAddr = "192.0.2.1:1234"
		if name != "" {
			asked.Header[name] = []string{value} // as a handler may do
		}
		var head requestHead
		if !head.write(asked) {
			return
		}
		r := bufio.NewReader(bytes.NewReader(head.buf))
		sent, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("it is no request: %v\n%q", err, head.buf)
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 || sent.ContentLength != 0 || len(sent.TransferEncoding) > 0 {
			t.Errorf("%q has a body, or what follows: length %d, %v, %q", head.buf, sent.ContentLength, sent.TransferEncoding, rest)
		}
		if sent.Method != asked.Method || sent.Host != asked.Host || sent.URL.Path != asked.URL.Path || sent.URL.RawQuery != asked.URL.RawQuery {
			t.Errorf("%s %s of %s became %s %s of %s", asked.Method, asked.URL, asked.Host, sent.Method, sent.URL, sent.Host)
		}
		checkFields(t, asked.Header, sent.Header)
	})
}

// checkFields checks that each field that was sent is one that the client asked with.
func checkFields(t *testing.T, asked, sent http.Header) {
	t.Helper()
	for name, values := range sent {
		switch name {
		case "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
			if len(values) != 1 {
				t.Errorf("%s is there %d times", name, len(values))
			}
		case "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect", "Forwarded", "X-Real-Ip":
			t.Errorf("%s: %q went on", name, values)
		case "Content-Length":
			if !slices.Equal(values, []string{"0"}) {
				t.Errorf("Content-Length: %q", values)
			}
		case "Via", "Pragma", "Cache-Control": // which is added; of which net/http makes the other
		default:
			for _, value := range values {
				if !sameFields(asked, name, value) {
					t.Errorf("%s: %q was not asked", name, value)
				}
			}
		}
	}
}

func sameFields(asked http.Header, name, value string) bool {
	for other, values := range asked {
		if http.CanonicalHeaderKey(other) == name && httpguts.ValidHeaderFieldName(other) &&
			slices.ContainsFunc(values, func(v string) bool { return strings.Trim(v, " \t") == value }) {
			return true
		}
	}
	return false
}
