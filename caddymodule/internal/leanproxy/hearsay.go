package leanproxy

import (
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// withoutHearsay returns a request without the fields in which a client can claim which way
// the request came: Forwarded (RFC 7239), X-Real-IP, and every X-Forwarded field, in the
// header or the trailer. The servers of a segment may take such fields for the front's own.
// reverse_proxy replaces X-Forwarded-For, -Host and -Proto in the header, but would pass on
// the others. Fields of a trusted proxy are kept.
func withoutHearsay(r *http.Request) *http.Request {
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		return r
	}
	clean := *r
	clean.Header = maps.Clone(r.Header)
	maps.DeleteFunc(clean.Header, func(name string, _ []string) bool {
		switch name {
		case "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
			return false
		}
		return isHearsay(name)
	})
	clean.Trailer = cleanTrailer(r)
	if r.Body != nil {
		clean.Body = &bodyBeforeTrailer{r.Body, r, &clean}
	}
	return &clean
}

// bodyBeforeTrailer is a request's body. A trailer is known when it ends.
type bodyBeforeTrailer struct {
	io.ReadCloser
	request, clean *http.Request
}

func (b *bodyBeforeTrailer) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.clean.Trailer = cleanTrailer(b.request)
	}
	return n, err
}

func cleanTrailer(r *http.Request) http.Header {
	trailer := maps.Clone(r.Trailer)
	maps.DeleteFunc(trailer, func(name string, _ []string) bool { return isHearsay(name) })
	return trailer
}

func isHearsay(name string) bool {
	return name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-")
}
