package checkup

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// wildcardListeners reports programs that listen on all addresses, and therefore also on
// those of segments. No server can have the same port on a segment, and a segment's `ports`
// may let clients reach such a program.
func (c *checkup) wildcardListeners() {
	open := wildcardPorts()
	for _, name := range config.SortedKeys(c.cfg.Segments) {
		s := c.cfg.Segments[name]
		if s.Netns != "" {
			continue // programs of the host do not listen there
		}
		c.takenPorts(name, open)
		var reached []string
		for _, p := range open {
			if slices.ContainsFunc(s.Ports, func(r config.PortRange) bool { return r.Contains(p.Protocol, p.First) }) {
				reached = append(reached, p.String())
			}
		}
		if len(reached) > 0 {
			c.warn("segment %s: its ports let clients in to programs that listen on all addresses (%s): if that is not meant, name the ports in `ports`, or bind the programs to an address",
				name, strings.Join(reached, ", "))
		}
	}
}

// takenPorts reports ports that servers of this program want on a segment, and that other
// programs have already.
func (c *checkup) takenPorts(segment string, open []config.PortRange) {
	if len(c.opts.Own) > 0 {
		return // the program may be the instance that runs
	}
	for _, p := range open {
		if slices.ContainsFunc(c.opts.Listen[segment], func(r config.PortRange) bool { return r.Contains(p.Protocol, p.First) }) {
			c.error(fmt.Errorf("segment %s: port %s: a program listens on it on all addresses, so no server can on the segment: bind that program to one address (ss -lnp 'sport = :%d' shows it)", segment, p, p.First))
		}
	}
}

// wildcardPorts lists the ports that are open on all addresses, in order.
func wildcardPorts() (ports []config.PortRange) {
	for _, table := range []struct {
		path  string
		proto config.Protocol
		state string // of a socket that takes what comes (include/net/tcp_states.h)
	}{
		{"/proc/thread-self/net/tcp", config.TCP, "0A"}, {"/proc/thread-self/net/tcp6", config.TCP, "0A"},
		{"/proc/thread-self/net/udp", config.UDP, "07"}, {"/proc/thread-self/net/udp6", config.UDP, "07"},
	} {
		file, err := os.Open(table.path)
		if err != nil {
			continue // a kernel without IPv6
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			// sl local_address rem_address st …, addresses and ports in hex
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != table.state {
				continue
			}
			addr, port, _ := strings.Cut(fields[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			if err == nil && strings.Trim(addr, "0") == "" {
				ports = append(ports, config.PortRange{Protocol: table.proto, First: uint16(n), Last: uint16(n)})
			}
		}
		_ = file.Close()
	}
	slices.SortFunc(ports, func(a, b config.PortRange) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	return slices.Compact(ports)
}
