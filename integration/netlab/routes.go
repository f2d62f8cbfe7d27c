package netlab

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// Route is a line of the kernel's routing table.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // 0.0.0.0 or ::, on the link
	Flags       string     // "U" up, "G" by a gateway, "H" to a single host
	Metric      int
	Device      string
}

// String formats the route as `route -n` does, but with a prefix for the mask
// and without the columns Ref and Use.
func (r Route) String() string {
	return fmt.Sprintf("%-15s %-12s %-2s %d %s", r.Destination, r.Gateway, r.Flags, r.Metric, r.Device)
}

// ParseRoutes reads the format of /proc/net/route, in its order.
func ParseRoutes(r io.Reader) ([]Route, error) {
	var routes []Route
	lines := bufio.NewScanner(r)
	lines.Scan() // the column titles
	for lines.Scan() {
		route, err := parseRoute(strings.Fields(lines.Text()))
		if err != nil {
			return nil, fmt.Errorf("routing table: %q: %w", lines.Text(), err)
		}
		routes = append(routes, route)
	}
	return routes, lines.Err()
}

// parseRoute reads the columns Iface, Destination, Gateway, Flags, RefCnt, Use,
// Metric, Mask.
func parseRoute(columns []string) (r Route, err error) {
	if len(columns) < 8 {
		return Route{}, fmt.Errorf("%d columns, want at least 8", len(columns))
	}
	r.Device = columns[0]
	destination, err := parseAddr(columns[1])
	if err != nil {
		return Route{}, err
	}
	if r.Gateway, err = parseAddr(columns[2]); err != nil {
		return Route{}, err
	}
	mask, err := strconv.ParseUint(columns[7], 16, 32)
	if err != nil {
		return Route{}, err
	}
	r.Destination = netip.PrefixFrom(destination, bits.OnesCount32(uint32(mask)))
	flags, err := strconv.ParseUint(columns[3], 16, 32)
	if err != nil {
		return Route{}, err
	}
	for i, letter := range []string{"U", "G", "H"} { // RTF_* of include/uapi/linux/route.h
		if flags>>i&1 == 1 {
			r.Flags += letter
		}
	}
	r.Metric, err = strconv.Atoi(columns[6])
	return r, err
}

// parseAddr reads an address, which the kernel prints as if its network-order
// word were a number of this machine.
func parseAddr(hex string) (netip.Addr, error) {
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		return netip.Addr{}, err
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(n))
	return netip.AddrFrom4(b), nil
}
