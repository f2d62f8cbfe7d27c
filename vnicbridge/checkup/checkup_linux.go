package checkup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

func (c *checkup) run() {
	if err := host.Require(host.DeviceCapabilities); err != nil {
		c.error(err)
	}
	ns, err := host.CurrentNamespace()
	if err != nil {
		c.error(err)
		return
	}
	defer ns.Close()
	m := &host.Machine{NS: ns}
	for _, err := range m.Problems(c.cfg, c.own) {
		c.error(err)
	}
	c.datapath()
	c.namespaces()
	c.lowPorts()
	c.nics(m)
	c.packetFilter(ns)
	c.wildcardListeners()
	c.forwarding()
	c.networkManagers()
	c.obstacles(m)
}

// obstacles reports routing rules of others that run before ours, now or after a start.
func (c *checkup) obstacles(m *host.Machine) {
	if len(c.cfg.Segments) == 0 {
		return
	}
	for _, o := range m.RulesAhead() {
		c.warn("%s", o)
	}
}

// namespaces reports namespaces of segments that this process may not open or make.
func (c *checkup) namespaces() {
	for _, name := range config.SortedKeys(c.cfg.Segments) {
		netns := c.cfg.Segments[name].Netns
		if _, err := os.Stat(host.NetnsDirectory + netns); netns == "" || err == nil {
			continue
		}
		if err := unix.Access(host.NetnsDirectory, unix.W_OK); errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
			c.error(fmt.Errorf("segment %s: %w", name, host.AbsentError(netns, err)))
		}
	}
	effective, err := host.Capabilities()
	if err != nil || effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return
	}
	for _, name := range config.SortedKeys(c.cfg.Segments) {
		if netns := c.cfg.Segments[name].Netns; netns != "" {
			c.error(fmt.Errorf("segment %s: CAP_SYS_ADMIN is missing, to open netns %s: run as root, or add it to the binary's or the unit's capabilities", name, netns))
		}
	}
}

// lowPorts reports if this process may not listen on low ports such as 80.
func (c *checkup) lowPorts() {
	effective, err := host.Capabilities()
	first := sysctlNumber("/proc/sys/net/ipv4/ip_unprivileged_port_start", 1024)
	if err == nil && effective&(1<<unix.CAP_NET_BIND_SERVICE) == 0 && first > 80 {
		c.warn("CAP_NET_BIND_SERVICE is missing: servers cannot listen on ports below %d; give it together with the other capabilities", first)
	}
}

func sysctlNumber(path string, otherwise int) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return otherwise
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return otherwise
	}
	return n
}

// nics reports the state of the NICs, and what the host itself uses them for.
func (c *checkup) nics(m *host.Machine) {
	devices, err := m.Devices()
	if err != nil {
		return // Problems has reported it
	}
	hasDefault, viaDefault := c.defaultRoute(m)
	addresses, _ := m.HostPrefixes()
	for _, name := range config.SortedKeys(c.cfg.Bridges) {
		b := c.cfg.Bridges[name]
		link := devices[b.NIC]
		if link == nil {
			continue
		}
		if link.Attrs().RawFlags&unix.IFF_UP == 0 {
			c.warn("bridge %s: nic %s is down: nothing passes until it is up (ip link set %s up)", name, b.NIC, b.NIC)
		} else if link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
			c.warn("bridge %s: nic %s has no carrier: check the cable, or the virtual machine's settings", name, b.NIC)
		}
		for _, h := range addresses {
			if h.Device != b.NIC {
				continue
			}
			switch {
			case h.Prefix.Addr() == c.opts.Session && h.Prefix.Addr() == b.Addresses[0].Addr():
				c.warn("bridge %s: your own session came in to %s, which the bridge is to take: it ends when the address leaves nic %s, and you are locked out; connect by another address or a console first, or give the bridge another address", name, h.Prefix.Addr(), b.NIC)
			case h.Prefix.Addr() == c.opts.Session:
				c.warn("bridge %s: your own session came in by nic %s, to %s: leave that address on it, the bridge does not touch it; without it you are locked out", name, b.NIC, h.Prefix.Addr())
			default:
				c.note("bridge %s: nic %s keeps the host's address %s: the bridge governs %s alone", name, b.NIC, h.Prefix.Addr(), b.Addresses[0].Addr())
			}
		}
		if viaDefault[link.Attrs().Index] {
			c.note("bridge %s: the host's default route leaves by nic %s: it needs the host's own address there", name, b.NIC)
		}
	}
	if !hasDefault && len(c.cfg.Bridges) > 0 && !c.givesDefaultRoute() {
		c.warn("the host has no default route: Caddy itself gets no certificates and resolves no names; give one segment `egress any` and `default_route`")
	}
}

func (c *checkup) givesDefaultRoute() bool {
	for _, s := range c.cfg.Segments {
		if s.DefaultRoute {
			return true
		}
	}
	return false
}

// defaultRoute tells whether the host has a default route, and by which devices. If the
// routes cannot be listed, it has one, so that nothing is reported.
func (c *checkup) defaultRoute(m *host.Machine) (has bool, via map[int]bool) {
	via = make(map[int]bool)
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Dst: host.Anywhere}
	routes, err := host.RetryDump(func() ([]netlink.Route, error) {
		return m.NS.Netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	})
	for _, r := range routes {
		via[r.LinkIndex] = true
	}
	return err != nil || len(routes) > 0, via
}

func (c *checkup) forwarding() {
	if sysctlNumber("/proc/sys/net/ipv4/ip_forward", 0) != 0 && len(c.cfg.Bridges) > 0 {
		c.note("ip_forward is 1: harmless, because the packet filter keeps the host from forwarding what is for a pseudo address or a segment, and VNICs do not forward")
	}
}

// networkManagers reports programs that may put addresses and routes of their own on any new
// device.
func (c *checkup) networkManagers() {
	// systemd makes /run/systemd/netif and its directories at every boot. Only
	// systemd-networkd makes files there.
	for _, manager := range []struct{ trace, name, fix string }{
		{"/run/NetworkManager", "NetworkManager", `write "[keyfile]" and "unmanaged-devices=interface-name:vnic-*" to /etc/NetworkManager/conf.d/vnic.conf, and reload it`},
		{"/run/systemd/netif/links/*", "systemd-networkd", `write "[Match]", "Name=vnic-*", "[Link]" and "Unmanaged=yes" to /etc/systemd/network/05-vnic.network, and networkctl reload`},
	} {
		if traces, err := filepath.Glob(manager.trace); err == nil && len(traces) > 0 {
			c.note("%s runs, and may take hold of VNICs: to keep it off, %s", manager.name, manager.fix)
		}
	}
}
