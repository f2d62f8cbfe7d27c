package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// CaptureParameters are the query parameters of GET /vnic/capture.
var CaptureParameters = Parameters[capture.Options]{
	"filter": {"Only frames that match this expression, as tcpdump takes it: 'tcp port 80 and not host 192.168.1.1'", func(o *capture.Options, text string) error {
		o.Filter = text
		return nil
	}},
	"client": {"Only flows that this address opened, or one of this network, on both sides", func(o *capture.Options, text string) (err error) {
		o.Client, err = config.ParseClient(text)
		return err
	}},
	"snaplen": {fmt.Sprintf("How many bytes of each frame are kept, %d to %d (default %d)", capture.MinSnaplen, capture.MaxSnaplen, capture.DefaultSnaplen),
		func(o *capture.Options, text string) (err error) {
			o.Snaplen, err = parsePositive("snaplen", text)
			return err
		}},
	"count": {"End after this many frames", func(o *capture.Options, text string) (err error) {
		o.Count, err = parsePositive("count", text)
		return err
	}},
	"duration": {"End after this time, as in 30s or 5m", func(o *capture.Options, text string) (err error) {
		if o.Duration, err = time.ParseDuration(text); err != nil || o.Duration <= 0 {
			return fmt.Errorf("duration %q: want a time, as in 30s or 5m", text)
		}
		return nil
	}},
	"peers": {"Whether the VNICs of segments that reach joins a segment with are captured, too: true (default) or false", func(o *capture.Options, text string) error {
		peers, err := strconv.ParseBool(text)
		o.Alone = !peers
		if err != nil {
			return fmt.Errorf("peers %q: want true or false", text)
		}
		return nil
	}},
	Captured: {"The segment or the bridge", func(o *capture.Options, text string) error {
		o.Of = text
		return nil
	}},
}

// Captured is the parameter for the segment or bridge. The command takes it as an argument.
const Captured = "of"

func parsePositive(name, text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s %q: want a positive number", name, text)
	}
	return int(n), nil
}

// serveCapture serves GET /vnic/capture.
func (a *API) serveCapture(w http.ResponseWriter, r *http.Request) error {
	if err := a.require(w, r, http.MethodGet); err != nil {
		return err
	}
	opts, err := CaptureParameters.parse(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	taken, err := a.shared.Plane.OpenCapture(opts)
	wrong := (*config.Error)(nil)
	switch {
	case errors.Is(err, capture.ErrTooMany):
		return caddy.APIError{HTTPStatus: http.StatusTooManyRequests, Err: err}
	case errors.As(err, &wrong):
		return badRequest(err)
	case err != nil:
		return err
	}
	name := strings.ReplaceAll(opts.Of, "/", "-") + ".pcapng"
	w.Header().Set("Content-Type", "application/x-pcapng")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	log := caddy.Log().Named("vnic")
	stream := captureStream{w, http.NewResponseController(w)}
	_ = stream.SetReadDeadline(time.Time{}) // the admin endpoint's deadline is for short requests
	if err := errors.Join(taken.Run(r.Context(), stream), taken.Close()); err != nil {
		log.Info("a capture was cut off: " + err.Error())
	}
	return nil
}

// captureStream sends each write at once. It gives up if the client reads nothing for
// captureStall.
type captureStream struct {
	http.ResponseWriter
	*http.ResponseController
}

const captureStall = time.Minute

func (s captureStream) Write(p []byte) (int, error) {
	_ = s.SetWriteDeadline(time.Now().Add(captureStall))
	n, err := s.ResponseWriter.Write(p)
	if err == nil {
		err = s.Flush()
	}
	return n, err
}
