package leanproxy

import (
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// inFlight returns reverse_proxy's own counter of the requests to a host. reverse_proxy
// chooses upstreams by it (least_conn, max_requests) and shows it
// (/reverse_proxy/upstreams), but exports no way to count the requests of others. If the
// counter is not where it was, inFlight returns nil, and the block has no lean proxy.
func inFlight(host *reverseproxy.Host) *atomic.Int64 {
	field, ok := reflect.TypeFor[reverseproxy.Host]().FieldByName("numRequests")
	if !ok || field.Type != reflect.TypeFor[atomic.Int64]() {
		return nil
	}
	return (*atomic.Int64)(unsafe.Add(unsafe.Pointer(host), field.Offset))
}
