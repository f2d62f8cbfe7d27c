package integration

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Route is a line of the kernel's routing table, in the columns of `route -n`.
type Route struct {
	Destination, Gateway, Genmask netip.Addr
	Flags                         string // "U" up, "G" by a gateway, "H" to a single host
	Metric                        int
	Device                        string
}

// String formats the route as `route -n` does, without the columns Ref and Use.
func (r Route) String() string {
	return fmt.Sprintf("%-13s %-13s %s %-2s %d %s", r.Destination, r.Gateway, r.Genmask, r.Flags, r.Metric, r.Device)
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
	for column, addr := range map[int]*netip.Addr{1: &r.Destination, 2: &r.Gateway, 7: &r.Genmask} {
		n, err := strconv.ParseUint(columns[column], 16, 32)
		if err != nil {
			return Route{}, err
		}
		// The kernel prints its network-order word as a number of this machine.
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(n))
		*addr = netip.AddrFrom4(b)
	}
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
