package config

import (
	"errors"
	"fmt"
	"slices"
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

// validateAnnouncedSegments checks that answers of servers behind a device find their clients. They
// may come to another machine than the one that has the flow, and an alias means nothing there.
func (c *Config) validateAnnouncedSegments(name string) error {
	if c.Bridges[name].Announce == nil {
		return nil
	}
	for _, segment := range SortedKeys(c.Segments) {
		if s := c.Segments[segment]; s.Remote() && s.ClientIP != Preserve && slices.Contains(c.BridgesOf(segment), name) {
			return fmt.Errorf("announce: the server of segment %s is behind device %s, so its answers may come to another machine that announces the address, which does not know whose alias they are for: add `client_ip preserve` to the segment", segment, s.Device)
		}
	}
	return nil
}
