package rolesocket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

// current asks the instance for its status. The segment is in it.
func (r *Role) current(ctx context.Context) (status api.Status, err error) {
	if err = r.read(ctx, api.StatusPath, nil, &status); err != nil {
		return status, err
	}
	if _, ok := status.Segments[r.segment]; !ok {
		err = refuse(http.StatusNotFound, "the running configuration has no segment %s", r.segment)
	}
	return status, err
}

// read asks the instance for something in JSON.
func (r *Role) read(ctx context.Context, path string, query url.Values, into any) error {
	resp, err := r.ask(ctx, r.watch, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return refuse(http.StatusBadGateway, "reading the instance's answer: %v", err)
	}
	return nil
}

// ask makes a request of the instance. The caller reads and closes the answer's body.
func (r *Role) ask(ctx context.Context, by http.RoundTripper, method, path string, query url.Values, body any) (*http.Response, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if body == nil {
		encoded = nil
	}
	asked, err := http.NewRequestWithContext(ctx, method, path+"?"+query.Encode(), bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	resp, err := by.RoundTrip(asked)
	if err != nil {
		return nil, refuse(http.StatusBadGateway, "Caddy's admin API does not answer: %v", err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, r.explain(ctx, path, resp)
}

// explain returns the error that the instance has answered with. An error may list what the
// configuration has, if the segment is no longer in it.
func (r *Role) explain(ctx context.Context, path string, resp *http.Response) error {
	var said struct {
		Error string `json:"error"`
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err = errors.Join(err, json.Unmarshal(text, &said)); err != nil {
		said.Error = "Caddy refuses the request"
	}
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden {
		return refuse(resp.StatusCode, "Caddy does not know this request, or refuses it")
	}
	if path != api.StatusPath && resp.StatusCode != http.StatusServiceUnavailable {
		if _, err := r.current(ctx); err != nil {
			return err
		}
	}
	return refuse(resp.StatusCode, "%s", said.Error)
}
