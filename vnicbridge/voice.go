package vnicbridge

import (
	"errors"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// voice is how a bridge tells others whether it is fit to have its addresses (H4). Voices that are
// equal tell the same ones.
type voice interface {
	tell(m machine, fit bool) error
}

// voiceOf returns the voice of a bridge, or nil if it tells nobody.
func voiceOf(c *config.Config, bridge string) voice {
	if f, ok := c.FailoverOf(bridge); ok {
		return trackedFile(f.Track)
	}
	if b := c.Bridges[bridge]; b != nil && b.Announce != nil {
		return announcedRoutes{b.Announce.Table, byFamily(b.Address)}
	}
	return nil
}

// trackedFile is the file by which keepalived is told.
type trackedFile string

func (f trackedFile) tell(m machine, fit bool) error { return m.Track(string(f), fit) }

// announcedRoutes are the kernel routes by which a routing daemon is told (H9).
type announcedRoutes struct {
	table     int
	addresses [config.Families]netip.Prefix
}

func (r announcedRoutes) tell(m machine, fit bool) (err error) {
	for _, own := range r.addresses {
		if own.IsValid() {
			err = errors.Join(err, m.Announce(r.table, own.Addr(), fit))
		}
	}
	return err
}
