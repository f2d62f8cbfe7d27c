package http1

import (
	"bufio"
	"context"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// FuzzParse checks that a plain request is read as net/http reads it.
func FuzzParse(f *testing.F) {
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"HEAD /a%20b?c=d;e&f#g HTTP/1.1\r\nHost: [::1]:80\r\nX-a: 1\r\nx-A: \t2 \r\nConnection: close\r\n\r\n",
		"GET //x/../y HTTP/1.1\r\nhost: a\r\nCookie: a=1\r\nVia:\r\n\r\n",
		"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nContent-Length: 0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\n\r\n",
		"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\na\r\n\r\n", // a line that ends in LF alone
		"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add(head)
	}
	f.Fuzz(func(t *testing.T, head string) {
		got, plain := parse(context.Background(), head)
		if !plain {
			return
		}
		rest := bufio.NewReader(strings.NewReader(head))
		want, err := http.ReadRequest(rest)
		if err != nil {
			t.Fatalf("%q is plain, which net/http refuses: %v", head, err)
		}
		delete(want.Header, "Host") // as net/http's server does
		if rest.Buffered() > 0 || !reflect.DeepEqual(*got, *want.WithContext(context.Background())) {
			t.Errorf("%q: got\n%+v\nwant that of net/http\n%+v", head, got, want)
		}
	})
}
