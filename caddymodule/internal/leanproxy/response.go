package leanproxy

import (
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Framings of a response's body, other than by its length.
const (
	chunked    = -1
	untilClose = -2
)

// responseHead is the head of an upstream's response.
type responseHead struct {
	status     int
	statusText string // such as "200 OK"
	length     int64  // of the body, or chunked or untilClose
	close      bool   // the connection, after this response
	fields     []responseField
}

type responseField struct{ name, value string }

// maxResponseFields is the largest number of fields of a plain response.
const maxResponseFields = 64

// parse reads a head, from the status line to the empty line, that answers a request of a
// method. If anything about the head is in doubt, it is not plain, and net/http reads the
// head again and decides.
func (h *responseHead) parse(head, method string) (plain bool) {
	*h = responseHead{fields: h.fields[:0], length: untilClose}
	line, rest, ok := strings.Cut(head, "\r\n")
	if !ok || !h.parseStatus(line) {
		return false
	}
	var seen framingFields
	for rest != "\r\n" {
		line, rest, ok = strings.Cut(rest, "\r\n")
		name, value, isField := strings.Cut(line, ":")
		if !ok || !isField || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) || len(h.fields) == maxResponseFields {
			return false
		}
		value = textproto.TrimString(value)
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !h.parseFraming(name, value, &seen) {
			return false
		}
		if name == "Transfer-Encoding" || name == "Connection" && h.close {
			continue // net/http does not show them either
		}
		h.fields = append(h.fields, responseField{name, value})
	}
	return h.settle(method, seen)
}

func (h *responseHead) parseStatus(line string) (plain bool) {
	const version = "HTTP/1.1 "
	text, ok := strings.CutPrefix(line, version)
	if !ok || len(text) < 3 || len(text) > 3 && text[3] != ' ' || !httpguts.ValidHeaderFieldValue(text) {
		return false
	}
	for _, c := range []byte(text[:3]) {
		if c < '0' || c > '9' {
			return false
		}
		h.status = 10*h.status + int(c-'0')
	}
	h.statusText = text
	return 200 <= h.status && h.status <= 599
}

// framingFields records which framing fields a response has.
type framingFields struct {
	length, encoding, connection, events bool
}

// parseFraming reads the fields that say how to read a response, or how to pass it on.
func (h *responseHead) parseFraming(name, value string, seen *framingFields) (plain bool) {
	switch name {
	case "Content-Length":
		plain = !seen.length && !seen.encoding && h.parseLength(value)
		seen.length = true
	case "Transfer-Encoding":
		plain = !seen.encoding && !seen.length && strings.EqualFold(value, "chunked")
		h.length, seen.encoding = chunked, true
	case "Connection":
		plain = !seen.connection && (strings.EqualFold(value, "keep-alive") || strings.EqualFold(value, "close"))
		h.close, seen.connection = strings.EqualFold(value, "close"), true
	case "Content-Type":
		seen.events = seen.events || len(value) >= 6 && strings.Contains(strings.ToLower(value), "event-stream")
		plain = true
	case "Trailer", "Incremental", "Pragma": // Pragma, of which net/http makes Cache-Control
		plain = false
	default:
		plain = true
	}
	return plain
}

func (h *responseHead) parseLength(value string) (plain bool) {
	if value == "" || len(value) > 18 {
		return false
	}
	h.length = 0
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return false
		}
		h.length = 10*h.length + int64(c-'0')
	}
	return true
}

// settle finds the body's length after all fields have been read.
func (h *responseHead) settle(method string, seen framingFields) (plain bool) {
	if method == http.MethodHead || h.status == http.StatusNoContent || h.status == http.StatusNotModified {
		h.length = 0
		return !seen.encoding || method == http.MethodHead
	}
	if h.length == untilClose {
		h.close = true
	}
	return !seen.events || h.length < 0 // events with a length are flushed one by one
}

// copyTo adds the fields that go on to a client's response.
func (h *responseHead) copyTo(header http.Header) {
	delete(header, "Server")
	header["Via"] = append(header["Via"], "1.1 Caddy")
	values := make([]string, len(h.fields)) // one allocation for all
	for i, field := range h.fields {
		switch field.name {
		case "Alt-Svc", "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
			"Te", "Trailer", "Transfer-Encoding", "Upgrade":
			continue
		}
		if before := header[field.name]; len(before) > 0 {
			header[field.name] = append(before, field.value)
			continue
		}
		values[i] = field.value
		header[field.name] = values[i : i+1 : i+1]
	}
}

// value returns the values of a field as reverse_proxy's placeholder has them.
func (h *responseHead) value(name string) (joined string, ok bool) {
	for _, field := range h.fields {
		switch {
		case field.name != name:
		case ok:
			joined += "," + field.value
		default:
			joined, ok = field.value, true
		}
	}
	return joined, ok
}
