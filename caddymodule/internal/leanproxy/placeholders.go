package leanproxy

import (
	"strings"
	"time"
)

// placeholders is the prefix of reverse_proxy's placeholders.
const placeholders = "http.reverse_proxy."

// pathPlaceholder tells which way a request went: fast (the lean proxy) or reverse_proxy.
const pathPlaceholder = "http.vnic_proxy.path"

// placeholder returns the value of one of reverse_proxy's placeholders for an exchange. The
// value is computed on demand.
func (x *exchange) placeholder(name string) (value any, ok bool) {
	if name == pathPlaceholder {
		return "fast", true
	}
	name, ok = strings.CutPrefix(name, placeholders)
	if !ok {
		return nil, false
	}
	if rest, ok := strings.CutPrefix(name, "upstream."); ok {
		return x.ofUpstream(rest)
	}
	var head responseHead
	if field, ok := strings.CutPrefix(name, "header."); ok {
		head.parse(x.head, x.r.Method)
		return head.value(field)
	}
	switch name {
	case "status_code":
		head.parse(x.head, x.r.Method)
		return head.status, true
	case "status_text":
		head.parse(x.head, x.r.Method)
		return head.statusText, true
	case "retries":
		return 0, true
	case "duration":
		return x.duration, x.duration > 0
	case "duration_ms":
		return milliseconds(x.duration), x.duration > 0
	}
	return nil, false
}

func (x *exchange) ofUpstream(name string) (value any, ok bool) {
	at := &x.upstream.at
	switch name {
	case "address":
		return at.String(), true
	case "hostport":
		return at.Address, true
	case "host":
		return at.Host, true
	case "port":
		return at.Port, true
	case "requests":
		return x.requests, true
	case "max_requests":
		return x.upstream.of.MaxRequests, true
	case "fails":
		return x.fails, true
	case "latency":
		return x.latency, true
	case "latency_ms":
		return milliseconds(x.latency), true
	case "duration":
		return x.duration, x.duration > 0
	case "duration_ms":
		return milliseconds(x.duration), x.duration > 0
	}
	return nil, false
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
