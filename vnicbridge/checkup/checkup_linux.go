package checkup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	c.announcements(m)
}

// announcements reports routing rules that read the table in which a bridge is announced.
func (c *checkup) announcements(m *host.Machine) {
	for _, name := range config.SortedKeys(c.cfg.Bridges) {
		announce := c.cfg.Bridges[name].Announce
		if announce == nil {
			continue
		}
		for _, rule := range m.RulesReading(announce.Table) {
			c.warn("bridge %s: announce route table %d: %s looks routes up there, so this host's own packets to the address end there; take another table", name, announce.Table, rule)
		}
	}
}

// obstacles reports routing rules of others that run before ours, now or after a start.
func (c *checkup) obstacles(m *host.Machine) {
	var families []config.Family
	for f := range config.Families {
		if c.hasSegment(f) {
			families = append(families, f)
		}
	}
	for _, o := range m.RulesAhead(families...) {
		c.warn("%s", o)
	}
}

// hasSegment tells whether a segment has an address of a family.
func (c *checkup) hasSegment(f config.Family) bool {
	for _, s := range c.cfg.Segments {
		if s.Address(f).IsValid() {
			return true
		}
	}
	return false
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
	routes, known := c.defaultRoutes(m)
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
		c.superPackets(name, link)
		nic := nicUse{bridge: name, Bridge: b}
		for _, h := range addresses {
			if h.Device == b.NIC {
				nic.addresses = append(nic.addresses, h.Prefix.Addr())
			}
		}
		for _, r := range routes {
			if r.LinkIndex == link.Attrs().Index {
				nic.routes = append(nic.routes, r)
			}
		}
		c.hostOnNIC(nic)
		c.routedToMAC(nic, link.Attrs().HardwareAddr)
	}
	c.overriddenDefault(routes)
	if known && len(routes) == 0 && len(c.cfg.Bridges) > 0 && !c.givesDefaultRoute() {
		c.warn("the host has no default route: Caddy itself gets no certificates and resolves no names; give one segment `egress any` and `default_route`")
	}
}

// overriddenDefault reports a segment's default_route that a default route from a router
// advertisement comes before.
func (c *checkup) overriddenDefault(routes []netlink.Route) {
	for _, name := range config.SortedKeys(c.cfg.Segments) {
		s := c.cfg.Segments[name]
		if !s.DefaultRoute || !s.Address(config.IPv6).IsValid() {
			continue
		}
		for _, r := range routes {
			if r.Protocol == unix.RTPROT_RA {
				c.warn("segment %s: default_route: the host has an IPv6 default route by %s from a router advertisement, which comes first: set accept_ra=0 on that device (ip -6 route shows it) if the host is to go by the segment", name, r.Gw)
			}
		}
	}
}

// nicUse is what the host itself has on a bridge's NIC.
type nicUse struct {
	bridge string
	*config.Bridge
	addresses []netip.Addr
	routes    []netlink.Route // default routes
}

// hostOnNIC reports the host's own addresses and default routes on a NIC.
func (c *checkup) hostOnNIC(nic nicUse) {
	for _, address := range nic.addresses {
		c.session(nic, address)
	}
	bare := !slices.ContainsFunc(nic.addresses, netip.Addr.Is4) && !slices.Contains(nic.addresses, c.opts.Session)
	if bare && len(nic.addresses) > 0 {
		c.notBare(nic)
		return
	}
	for _, address := range nic.addresses {
		if address != c.opts.Session && !isLinkLocal(address) {
			c.note("bridge %s: nic %s keeps the host's address %s: the bridge governs %s alone", nic.bridge, nic.NIC, address, nic.pseudo())
		}
	}
	if len(nic.routes) > 0 {
		c.note("bridge %s: the host's default route leaves by nic %s: it needs the host's own address there", nic.bridge, nic.NIC)
	}
}

// session warns whoever is connected to an address on a NIC.
func (c *checkup) session(nic nicUse, address netip.Addr) {
	switch {
	case address != c.opts.Session:
	case address == nic.Address(config.FamilyOf(address)).Addr():
		c.warn("bridge %s: your own session came in to %s, which the bridge is to take: it ends when the address leaves nic %s, and you are locked out; connect by another address or a console first, or give the bridge another address", nic.bridge, address, nic.NIC)
	default:
		c.warn("bridge %s: your own session came in by nic %s, to %s: leave that address on it, the bridge does not touch it; without it you are locked out", nic.bridge, nic.NIC, address)
	}
}

// pseudo names the bridge's addresses.
func (n nicUse) pseudo() string {
	var all []string
	for _, own := range n.Addresses {
		all = append(all, own.Addr().String())
	}
	return strings.Join(all, " and ")
}

// notBare reports that the host uses IPv6 on a NIC that has no IPv4 address. Router
// advertisements give it addresses there, and a default route, without anybody's doing.
func (c *checkup) notBare(nic nicUse) {
	var has []string
	report := c.note // a link-local address is reached from the link only
	for _, a := range nic.addresses {
		has = append(has, a.String())
		if !isLinkLocal(a) {
			report = c.warn
		}
	}
	accepts := ""
	for _, r := range nic.routes {
		report = c.warn
		has = append(has, "a default route")
		if r.Protocol == unix.RTPROT_RA {
			accepts = fmt.Sprintf("; if the host needs its IPv6 there, set net.ipv6.conf.%s.accept_ra=0, or any router on the link changes its default route", nic.NIC)
		}
	}
	report("bridge %s: nic %s has no IPv4 address, but the host's IPv6 is on there (%s), and its daemons are reached by it: to give the NIC to the bridge alone, sysctl -w net.ipv6.conf.%s.disable_ipv6=1, because the bridge does not need it%s",
		nic.bridge, nic.NIC, strings.Join(has, ", "), nic.NIC, accepts)
}

// routedToMAC reports that nobody has the link-local address that belongs to the NIC's MAC.
// Some providers send all packets of a network to it.
func (c *checkup) routedToMAC(nic nicUse, mac net.HardwareAddr) {
	gateway := nic.Gateway(config.IPv6)
	hostHas := slices.ContainsFunc(nic.addresses, netip.Addr.Is6)
	if !gateway.IsValid() || !isLinkLocal(gateway) || nic.LinkLocal.IsValid() || hostHas || len(mac) != len(config.MAC{}) {
		return
	}
	c.note("bridge %s: the host's IPv6 is off on nic %s: if the provider sends packets for %s to the link-local address of the NIC's MAC, set `link_local %s`",
		nic.bridge, nic.NIC, nic.Address(config.IPv6).Masked(), linkLocalOf(config.MAC(mac)))
}

// linkLocalOf returns the link-local address that belongs to a MAC (RFC 4291, appendix A).
func linkLocalOf(mac config.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func isLinkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// superPackets reports a NIC that joins packets to more than IPv6's length field can say (BIG
// TCP). The bridge drops these (F8).
func (c *checkup) superPackets(bridge string, link netlink.Link) {
	const most = 65536 // GRO_LEGACY_MAX_SIZE (include/linux/netdevice.h)
	a := link.Attrs()
	if a.GROMaxSize > most && c.cfg.Bridges[bridge].Address(config.IPv6).IsValid() {
		c.warn("bridge %s: nic %s joins packets to up to %d bytes (BIG TCP), and the bridge drops IPv6 packets of more than 64 KiB: ip link set %s gro_max_size %d", bridge, a.Name, a.GROMaxSize, a.Name, most)
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

// defaultRoutes lists the host's default routes of both families. known is false if they
// cannot be listed, and then nothing is reported.
func (c *checkup) defaultRoutes(m *host.Machine) (routes []netlink.Route, known bool) {
	for f := range config.Families {
		of, err := m.DefaultRoutes(f)
		if err != nil {
			return nil, false
		}
		routes = append(routes, of...)
	}
	return routes, true
}

func (c *checkup) forwarding() {
	if len(c.cfg.Bridges) == 0 {
		return
	}
	if sysctlNumber("/proc/sys/net/ipv4/ip_forward", 0) != 0 {
		c.note("ip_forward is 1: harmless, because the packet filter keeps the host from forwarding what is for a pseudo address or a segment, and VNICs do not forward")
	}
	if sysctlNumber("/proc/sys/net/ipv6/conf/all/forwarding", 0) != 0 && c.cfg.HasIPv6() {
		c.note("ipv6.conf.all.forwarding is 1: harmless, because the packet filter keeps the host from forwarding what is for a pseudo address or a segment")
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
