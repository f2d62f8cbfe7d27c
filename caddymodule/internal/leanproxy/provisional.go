package leanproxy

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// maxProvisional is the number of provisional responses (1xx) that an upstream may send
// before the final one. It gives a server that sends a 102 every 20 s more than five hours.
const maxProvisional = 1000

// boundProvisional bounds the number of provisional responses to a request, and their total
// length to that of one head. net/http drops its own bounds if somebody reads them, as
// reverse_proxy does.
func boundProvisional(r *http.Request, headLimit int64) {
	trace := httptrace.ContextClientTrace(r.Context())
	if trace == nil || trace.Got1xxResponse == nil {
		return
	}
	take, number, length := trace.Got1xxResponse, 0, int64(0)
	trace.Got1xxResponse = func(status int, header textproto.MIMEHeader) error {
		number++
		for name, values := range header {
			for _, value := range values {
				length += int64(len(name) + len(": ") + len(value) + len("\r\n"))
			}
		}
		if number > maxProvisional || length > headLimit {
			return fmt.Errorf("the upstream sends provisional responses without end: %d, of %d bytes", number, length)
		}
		return take(status, header)
	}
}
