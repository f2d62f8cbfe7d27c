package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// operations are what can be done to one segment while the others go on.
var operations = map[string]func(ctx context.Context, segment string) error{
	"drain": drainSegment, "activate": startSegment,
	"stop": stopSegment, "start": startSegment,
}

// operating lets one operation be complete before the next.
var operating sync.Mutex

func drainSegment(_ context.Context, segment string) error {
	if plane.State(segment) == vnicbridge.Stopped {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: fmt.Errorf("segment %s is stopped and has nothing to drain: start it first", segment)}
	}
	return plane.SetState(segment, vnicbridge.Draining)
}

// stopSegment keeps new flows away before the listeners close, so that no client
// of the bridge comes to a closed port.
func stopSegment(_ context.Context, segment string) error {
	if err := plane.SetState(segment, vnicbridge.Stopped); err != nil {
		return err
	}
	sockets.Stop(segment)
	return nil
}

func startSegment(ctx context.Context, segment string) error {
	if err := sockets.Start(ctx, segment); err != nil {
		return fmt.Errorf("segment %s stays stopped: %w", segment, err)
	}
	return plane.SetState(segment, vnicbridge.Active)
}

// serveOperation serves POST /vnic/segments/<segment>/<operation>.
func serveOperation(w http.ResponseWriter, r *http.Request) error {
	segment, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, segmentsPath), "/")
	operate, ok := operations[name]
	if !ok {
		return notFound(fmt.Errorf("unknown operation %q: want POST %s<segment>/<operation>, where the operation is one of %s", name, segmentsPath, names(operations)))
	}
	if err := require(w, r, http.MethodPost); err != nil {
		return err
	}
	operating.Lock()
	defer operating.Unlock()
	if known := plane.Status().Segments; !hasKey(known, segment) {
		return notFound(vnicbridge.UnknownSegment(segment, slices.Sorted(maps.Keys(known))))
	}
	return operate(r.Context(), segment)
}

func notFound(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
}

func hasKey[V any](m map[string]V, key string) bool {
	_, ok := m[key]
	return ok
}

// trackIdle lets a segment's stop close the idle connections of the configuration's
// HTTP servers. It may have the http app provisioned, whose modules may ask for
// this app, which must be complete by then.
func trackIdle(ctx caddy.Context) error {
	app, err := ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		if slices.ContainsFunc(server.Listen, func(addr string) bool { return strings.HasPrefix(addr, "vnic/") }) {
			server.RegisterConnState(sockets.ConnState)
		}
	}
	return nil
}
