package http1

import (
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// parse makes the same request of a head as net/http's server would, if the request is
// plain: a GET or HEAD without a body, which asks for nothing but a response. All other
// requests, and all malformed ones, are left to net/http.
func parse(ctx context.Context, head string) (r *http.Request, plain bool) {
	line, fields, ok := strings.Cut(head, "\r\n")
	method, rest, _ := strings.Cut(line, " ")
	target, proto, _ := strings.Cut(rest, " ")
	if !ok || method != http.MethodGet && method != http.MethodHead || proto != "HTTP/1.1" || !strings.HasPrefix(target, "/") {
		return nil, false
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, false
	}
	r = blank.WithContext(ctx)
	r.Method, r.URL, r.RequestURI, r.Proto = method, u, target, proto
	return r, parseFields(r, fields) && r.Host != ""
}

var blank = &http.Request{ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}

// parseFields reads the fields of a head, up to the empty line.
func parseFields(r *http.Request, fields string) (plain bool) {
	n := strings.Count(fields, "\r\n")
	r.Header = make(http.Header, n)
	values := make([]string, 0, n) // one allocation for all
	for fields != "\r\n" {
		line, rest, ok := strings.Cut(fields, "\r\n")
		name, value, isField := strings.Cut(line, ":")
		if !ok || !isField || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return false
		}
		name, value, fields = textproto.CanonicalMIMEHeaderKey(name), textproto.TrimString(value), rest
		switch name {
		case "Host":
			if r.Host != "" || !PlainHost(value) {
				return false
			}
			r.Host = value
			continue
		case "Connection":
			r.Close = strings.EqualFold(value, "close")
			if _, again := r.Header[name]; again || !r.Close && !strings.EqualFold(value, "keep-alive") {
				return false
			}
		case "Content-Length", "Transfer-Encoding", "Trailer", "Te", "Expect", "Upgrade",
			"Pragma": // net/http makes Cache-Control of it
			return false
		}
		if before := r.Header[name]; before != nil {
			r.Header[name] = append(before, value)
			continue
		}
		values = append(values, value)
		r.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return true
}

// PlainHost tells whether a host is a name or an address, with or without a port, and so
// is written unchanged.
func PlainHost(host string) bool {
	for _, c := range []byte(host) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return host != ""
}
