package config

import (
	"errors"
	"fmt"
)

// Announce lets routers learn on which machines the pseudo addresses of a bridge are. While the
// bridge is fit, a kernel route in a table of its own says so, and a routing daemon announces it.
// Nobody on the link is told of the addresses, because routers send them to the machine's own one.
type Announce struct {
	// The number of the routing table: 1 to 252, which each routing daemon can read. No rule of
	// the host may look routes up there.
	Table int `json:"table,omitempty"`
}

// maxAnnounceTable is the last table that is not one of the kernel's own.
const maxAnnounceTable = 252

func (b *Bridge) validateAnnounce() error {
	switch {
	case b.Announce == nil:
		return nil
	case b.Failover != nil:
		return errors.New("announce and failover: want one of them: either one machine has the addresses, or all that announce them")
	case b.Announce.Table < 1 || b.Announce.Table > maxAnnounceTable:
		return fmt.Errorf("announce route table %d: want a table of 1 to %d, as in 176", b.Announce.Table, maxAnnounceTable)
	}
	return nil
}
