// Package adminclient asks Caddy's admin API from tests that reload Caddy.
package adminclient

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"syscall"
)

// Of returns a client that asks by another one's transport, and asks again when
// the answer is lost to a reload.
//
// Caddy makes its admin endpoint anew with each configuration, and ends the old one
// when it has answered already. Whoever asks at once may have come to the old one: a
// connection that it has not accepted is reset, and one whose request it has not begun
// with is closed (net/http's Server.Shutdown). Such a request has had no effect. One that
// had its effect and lost its answer is made twice, which tests must bear: loading a
// configuration and operating a segment have the same result a second time.
func Of(client *http.Client) *http.Client {
	again := *client
	again.Transport = transport{cmp.Or[http.RoundTripper](client.Transport, http.DefaultTransport)}
	return &again
}

// tries is how often a request is made. Two reloads in a row lose one each.
const tries = 4

type transport struct{ http.RoundTripper }

func (t transport) RoundTrip(request *http.Request) (resp *http.Response, err error) {
	for range tries {
		if resp, err = t.RoundTripper.RoundTrip(request); err == nil || !lost(err) {
			break
		}
		if request, err = renewed(request); err != nil {
			break
		}
	}
	return resp, err
}

// renewed returns a request with its body from the beginning, which
// http.NewRequest knows to get of all readers that tests have.
func renewed(request *http.Request) (*http.Request, error) {
	again := request.Clone(request.Context())
	if request.Body == nil {
		return again, nil
	}
	var err error
	again.Body, err = request.GetBody()
	return again, err
}

func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}
