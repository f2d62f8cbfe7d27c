package host

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announceProtocol marks the routes that announce pseudo addresses (H9).
const announceProtocol = 76

// Announce keeps a route to an address in a table that no rule of the host reads, or removes it.
// A routing daemon learns from it that this machine serves the address. The route leads nowhere,
// so that it does no harm if a rule reads it after all.
func (m *Machine) Announce(table int, address netip.Addr, on bool) error {
	route := &netlink.Route{
		Table: table, Dst: IPNet(netip.PrefixFrom(address, address.BitLen())), Protocol: announceProtocol, Type: unix.RTN_UNREACHABLE,
	}
	if on {
		if _, err := added(m.NS.Netlink.RouteAdd(route)); err != nil {
			return fmt.Errorf("adding the route to %s in table %d: %w", address, table, err)
		}
		return nil
	}
	if err := ignoreMissing(m.NS.Netlink.RouteDel(route)); err != nil {
		return fmt.Errorf("removing the route to %s from table %d: %w", address, table, err)
	}
	return nil
}
