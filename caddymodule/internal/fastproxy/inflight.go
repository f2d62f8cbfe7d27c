package fastproxy

import (
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// inFlight is the number of requests to a host which reverse_proxy chooses by
// (least_conn, max_requests) and shows (/reverse_proxy/upstreams). It has no way to
// count what goes by others, so this is its own counter; nil if that is not where
// it was, and there can be no fast path.
func inFlight(host *reverseproxy.Host) *atomic.Int64 {
	field, ok := reflect.TypeFor[reverseproxy.Host]().FieldByName("numRequests")
	if !ok || field.Type != reflect.TypeFor[atomic.Int64]() {
		return nil
	}
	return (*atomic.Int64)(unsafe.Add(unsafe.Pointer(host), field.Offset))
}
