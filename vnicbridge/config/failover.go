package config

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
)

// Failover lets an elector decide which of several machines has the pseudo addresses of a bridge.
// The bridge stands by until the elector gives it the addresses.
type Failover struct {
	// The elector: "keepalived".
	Engine FailoverEngine `json:"engine,omitempty"`

	// The name of the elector's vrrp_instance, or vrrp_sync_group. The bridge is active while
	// that is MASTER.
	Instance string `json:"instance,omitempty"`

	// The FIFO to which the elector writes (its vrrp_notify_fifo). It is made if it does not
	// exist. Default: [DefaultFIFO].
	FIFO string `json:"fifo,omitempty"`

	// The file that the elector watches (its track_file), to which the bridge writes 0 while it
	// is fit to have the addresses, and else 1. Default: the bridge's name, in the directory of
	// [DefaultFIFO].
	Track string `json:"track,omitempty"`
}

// FailoverEngine names an elector.
type FailoverEngine string

// Keepalived elects by VRRP.
const Keepalived FailoverEngine = "keepalived"

// DefaultFIFO is the FIFO of bridges whose configuration names none.
const DefaultFIFO = "/run/caddy-vnic/vrrp"

// FailoverOf returns how a bridge fails over, with the defaults. ok is false if it does not.
func (c *Config) FailoverOf(bridge string) (f Failover, ok bool) {
	b := c.Bridges[bridge]
	if b == nil || b.Failover == nil {
		return f, false
	}
	f = *b.Failover
	if f.FIFO == "" {
		f.FIFO = DefaultFIFO
	}
	if f.Track == "" {
		f.Track = path.Join(path.Dir(DefaultFIFO), bridge)
	}
	return f, true
}

func (c *Config) validateFailover(bridge string) error {
	f, ok := c.FailoverOf(bridge)
	if !ok {
		return nil
	}
	switch {
	case f.Engine != Keepalived:
		return fmt.Errorf("failover %q: want keepalived", f.Engine)
	case f.Instance == "":
		return errors.New("failover keepalived: the name of its vrrp_instance is missing")
	case strings.ContainsFunc(f.Instance, func(r rune) bool { return r == '"' || unicode.IsControl(r) }):
		return fmt.Errorf("failover keepalived %q: keepalived has no such names: leave out quotes and control characters", f.Instance)
	case !path.IsAbs(f.FIFO):
		return fmt.Errorf("failover: fifo %s: want a path from the root on, as in %s", f.FIFO, DefaultFIFO)
	case !path.IsAbs(f.Track):
		return fmt.Errorf("failover: track %s: want a path from the root on, as in %s", f.Track, path.Join(path.Dir(DefaultFIFO), bridge))
	}
	for _, other := range SortedKeys(c.Bridges) {
		o, ok := c.FailoverOf(other)
		switch {
		case !ok:
		case path.Clean(o.FIFO) == path.Clean(f.Track) || path.Clean(o.Track) == path.Clean(f.FIFO):
			return fmt.Errorf("failover: %s is a fifo, and a track file: want two files", f.Track)
		case other < bridge && path.Clean(o.Track) == path.Clean(f.Track):
			return fmt.Errorf("failover: track %s is bridge %s's already", f.Track, other)
		}
	}
	return nil
}
