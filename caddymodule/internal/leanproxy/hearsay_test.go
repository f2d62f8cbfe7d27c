package leanproxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestHearsay checks that fields about a request's way are passed on from a trusted proxy, but
// not from a client. This includes the trailer, which is known at the end of the body.
func TestHearsay(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		r := forwardedRequest(t, trusted)
		clean := withoutHearsay(r)
		r.Trailer = http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Sum": {"1"}} // as net/http does while Read returns io.EOF
		if _, err := io.ReadAll(clean.Body); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-Port"} {
			if kept := clean.Header.Get(name) != ""; kept != trusted {
				t.Errorf("trusted %v: %s kept: %v", trusted, name, kept)
			}
			if r.Header.Get(name) == "" {
				t.Errorf("%s is gone from the request itself, which other handlers see", name)
			}
		}
		if kept := clean.Trailer.Get("X-Forwarded-For") != ""; kept != trusted {
			t.Errorf("trusted %v: X-Forwarded-For in the trailer kept: %v", trusted, kept)
		}
		if clean.Header.Get("Accept") == "" || clean.Trailer.Get("X-Sum") == "" || clean.Header.Get("X-Forwarded-For") == "" {
			t.Errorf("trusted %v: gone is what is none of this: %v, trailer %v", trusted, clean.Header, clean.Trailer)
		}
	}
}

func forwardedRequest(t *testing.T, trusted bool) *http.Request {
	t.Helper()
	vars := context.WithValue(t.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.TrustedProxyVarKey: trusted})
	r, err := http.NewRequestWithContext(vars, http.MethodPost, "http://www.example.com/", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-Port", "X-Forwarded-For", "Accept"} {
		r.Header.Set(name, "x")
	}
	return r
}
