package leanproxy

import (
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/http1"
)

// requestHead writes the heads of requests for upstreams.
type requestHead struct {
	buf   []byte
	names []string
}

// write writes the head of a plain request, byte by byte as reverse_proxy and net/http
// would. If the request is not plain, it returns false.
func (h *requestHead) write(r *http.Request) (plain bool) {
	h.buf, h.names = h.buf[:0], h.names[:0]
	if !plainRequest(r) {
		return false
	}
	client, plain := clientIP(r.RemoteAddr)
	if !plain || !h.collect(r.Header) || !h.start(r) {
		return false
	}
	for _, name := range h.names {
		switch name {
		case "Via":
			for _, value := range r.Header[name] {
				h.field(name, value)
			}
			h.via(r)
		case "X-Forwarded-For":
			h.field(name, client)
		case "X-Forwarded-Host":
			h.field(name, r.Host)
		case "X-Forwarded-Proto":
			h.field(name, scheme(r))
		default:
			for _, value := range r.Header[name] {
				h.field(name, value)
			}
		}
	}
	h.buf = append(h.buf, "\r\n"...)
	return true
}

// plainRequest tells whether a request is plain, apart from its header fields.
func plainRequest(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		return false
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) != 0 || len(r.Trailer) != 0 {
		return false
	}
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		return false // Early-Data
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return !trusted && http1.PlainHost(r.Host)
}

// clientIP returns the client's address in the form of X-Forwarded-For.
func clientIP(remote string) (ip string, plain bool) {
	ip, _, err := net.SplitHostPort(remote)
	if err != nil {
		return "", false
	}
	addr, err := netip.ParseAddr(ip)
	return ip, err == nil && addr.Zone() == ""
}

func scheme(r *http.Request) string {
	if r.TLS == nil {
		return "http"
	}
	return "https"
}

// collect gathers the names of the fields that go on, and of the fields that are added, in
// order. Fields about one connection do not go on, and neither do those in which a client
// claims which way the request came.
func (h *requestHead) collect(fields http.Header) (plain bool) {
	for name, values := range fields {
		if len(values) == 0 {
			return false // set so by a handler, to keep the field from being added
		}
		switch name {
		case "Upgrade", "Te", "Trailer", "Transfer-Encoding", "Expect", "Incremental":
			return false
		case "Connection":
			for _, value := range values {
				if !strings.EqualFold(value, "keep-alive") && !strings.EqualFold(value, "close") {
					return false
				}
			}
			continue
		case "Host", "User-Agent", "Content-Length", // which stand elsewhere
			"Alt-Svc", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection":
			continue
		case "Via":
			continue // added below
		}
		if isHearsay(name) {
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) || textproto.CanonicalMIMEHeaderKey(name) != name {
			return false // none of a client's, but what a handler may set
		}
		h.names = append(h.names, name)
	}
	h.names = append(h.names, "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")
	slices.Sort(h.names)
	return validValues(fields)
}

func validValues(fields http.Header) bool {
	for _, values := range fields {
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return false
			}
		}
	}
	return true
}

// start writes the request line, and the fields that come first.
func (h *requestHead) start(r *http.Request) (plain bool) {
	h.buf = append(h.buf, r.Method...)
	h.buf = append(h.buf, ' ')
	if !h.target(r.URL) {
		return false
	}
	h.buf = append(h.buf, " HTTP/1.1\r\n"...)
	h.field("Host", r.Host)
	if agent := r.Header.Get("User-Agent"); agent != "" {
		h.field("User-Agent", agent)
	}
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		h.field("Content-Length", "0")
	}
	return true
}

func (h *requestHead) target(u *url.URL) (plain bool) {
	path := u.EscapedPath()
	if u.Opaque != "" || !strings.HasPrefix(path, "/") {
		return false
	}
	begin := len(h.buf)
	h.buf = append(h.buf, path...)
	if u.ForceQuery || u.RawQuery != "" {
		h.buf = append(h.buf, '?')
		h.buf = append(h.buf, u.RawQuery...)
	}
	for _, c := range h.buf[begin:] {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

func (h *requestHead) field(name, value string) {
	h.buf = append(h.buf, name...)
	h.buf = append(h.buf, ": "...)
	h.buf = append(h.buf, textproto.TrimString(value)...)
	h.buf = append(h.buf, "\r\n"...)
}

func (h *requestHead) via(r *http.Request) {
	h.buf = append(h.buf, "Via: "...)
	h.buf = strconv.AppendInt(h.buf, int64(r.ProtoMajor), 10)
	h.buf = append(h.buf, '.')
	h.buf = strconv.AppendInt(h.buf, int64(r.ProtoMinor), 10)
	h.buf = append(h.buf, " Caddy\r\n"...)
}

// replayable tells whether a request may be sent again, if a kept connection turns out to
// be closed. The rule is net/http's.
func replayable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return len(r.Header["Idempotency-Key"]) > 0 || len(r.Header["X-Idempotency-Key"]) > 0
}
