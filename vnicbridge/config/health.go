package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Health says how a segment is checked, from its own namespace and at its own address, or
// from another segment. While the checks fail, the segment gets no new flows. The flows that it
// has go on.
type Health struct {
	// What a check needs to pass: "tcp", that a connection is accepted; "http", that a GET
	// of the path is answered by a status of 2xx or 3xx.
	Protocol HealthProtocol `json:"protocol,omitempty"`

	// The TCP port, 1 to 65535. It need not be open to clients.
	Port uint16 `json:"port,omitempty"`

	// The path and query of the request, for http. Default: "/".
	Path string `json:"path,omitempty"`

	// The segment from which the checks come, as its other connections do: through the bridge,
	// which translates their addresses. It must reach the segment. Default: the segment
	// itself. A segment whose server is behind a device needs another one.
	From string `json:"from,omitempty"`

	// The time from one check to the next, at least [MinHealthInterval]. Each time, up to
	// a tenth is left out at random, so that the checks of many machines spread. Default: 5s.
	Interval Duration `json:"interval,omitempty"`

	// How long an answer may take, at most the interval. Default: 2s, or the
	// interval if that is shorter.
	Timeout Duration `json:"timeout,omitempty"`

	// How many checks in a row must fail for a healthy segment to be unhealthy.
	// Default: 3.
	Fails int `json:"fails,omitempty"`

	// How many checks in a row must pass for an unhealthy segment to be healthy.
	// Default: 2.
	Passes int `json:"passes,omitempty"`
}

// HealthProtocol is what a check of a segment's health speaks.
type HealthProtocol string

// The protocols of health checks.
const (
	HealthTCP  HealthProtocol = "tcp"
	HealthHTTP HealthProtocol = "http"
)

// MinHealthInterval is the shortest time between two checks of a segment.
const MinHealthInterval = Duration(100 * time.Millisecond)

// Duration is a time span. Its text form is that of [time.ParseDuration], as in
// "5s" or "250ms".
type Duration time.Duration

// String returns the text form.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// ParseDuration parses the text form of a Duration.
func ParseDuration(text string) (Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("duration %q: want a time above 0 with its unit, as in 5s or 250ms", text)
	}
	return Duration(d), nil
}

// WithDefaults returns a copy in which unset fields have their defaults.
func (h Health) WithDefaults() Health {
	if h.Protocol == HealthHTTP {
		h.Path = cmp.Or(h.Path, "/")
	}
	h.Interval = cmp.Or(h.Interval, Duration(5*time.Second))
	h.Timeout = cmp.Or(h.Timeout, min(Duration(2*time.Second), h.Interval))
	h.Fails = cmp.Or(h.Fails, 3)
	h.Passes = cmp.Or(h.Passes, 2)
	return h
}

func (h *Health) validate() error {
	if h == nil {
		return nil
	}
	if h.Protocol != HealthTCP && h.Protocol != HealthHTTP {
		return fmt.Errorf("health %q: want tcp or http", h.Protocol)
	}
	if h.Port == 0 {
		return errors.New("health: the port is missing, as in http/80")
	}
	if err := h.validatePath(); err != nil {
		return err
	}
	full := h.WithDefaults()
	switch {
	case full.Interval < MinHealthInterval:
		return fmt.Errorf("health: interval %s: want %s or more", full.Interval, MinHealthInterval)
	case full.Timeout < 0:
		return fmt.Errorf("health: timeout %s: want a time above 0", full.Timeout)
	case full.Timeout > full.Interval:
		return fmt.Errorf("health: timeout %s is longer than the interval of %s: a check must end before the next", full.Timeout, full.Interval)
	case full.Fails < 0:
		return fmt.Errorf("health: fails %d: want 1 or more", full.Fails)
	case full.Passes < 0:
		return fmt.Errorf("health: passes %d: want 1 or more", full.Passes)
	}
	return nil
}

func (h *Health) validatePath() error {
	if h.Path == "" {
		return nil
	}
	if h.Protocol == HealthTCP {
		return fmt.Errorf("health: path %s: tcp asks for a connection only; a path needs http", h.Path)
	}
	if _, err := url.ParseRequestURI(h.Path); err != nil || !strings.HasPrefix(h.Path, "/") {
		return fmt.Errorf("health: path %q: want a path that begins with a slash, as in /healthz", h.Path)
	}
	return nil
}
