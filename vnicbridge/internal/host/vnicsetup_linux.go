package host

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// VNICSetup keeps a VNIC's device as it should be: name, MAC, MTU, sysctls, address, routes,
// rule and neighbours. Every step changes only what differs, so that the same code sets up a
// new device and repairs what somebody else has changed.
type VNICSetup struct {
	NS      *Namespace
	Spec    VNICSpec
	sysctls []sysctl
	Ifindex int
	set     VNICSettings // by the last Configure
}

// find finds the device by its name.
func (v *VNICSetup) find() error {
	link, err := v.NS.Netlink.LinkByName(v.Spec.Iface)
	if err != nil {
		return fmt.Errorf("finding the device: %w", err)
	}
	v.Ifindex = link.Attrs().Index
	return nil
}

// Index returns the device's number in the kernel.
func (v *VNICSetup) Index() int { return v.Ifindex }

// Do runs a function on a thread in the device's namespace.
func (v *VNICSetup) Do(f func() error) error { return v.NS.Do(f) }

// Configure makes the device as it should be, and names what somebody else had changed. An
// MTU that is too small for IPv6 is an error, but IPv4 is set up nevertheless.
func (v *VNICSetup) Configure(want VNICSettings) (changed []string, err error) {
	ours := v.differences(want)
	// The MAC comes early, because a change of it flushes even permanent neighbours.
	steps := []struct {
		name   string
		ensure func(VNICSettings) (bool, error)
	}{
		{"name", v.ensureName}, {"MAC", v.ensureMAC}, {"MTU", v.ensureMTU}, {"sysctls", v.ensureSysctls},
		{"state", v.ensureUp}, {"rule", v.ensureRule}, {"address", v.ensureAddress}, {"routes", v.ensureRoutes},
		{"rule's default route", v.ensureDefaultRoute}, {"default route", v.ensureHostRoute}, {"neighbours", v.ensureNeighbours},
	}
	for _, step := range steps {
		differed, err := step.ensure(want)
		if err != nil {
			return changed, fmt.Errorf("VNIC %s: setting its %s: %w", v.Spec.Iface, step.name, err)
		}
		if differed && !ours[step.name] {
			changed = append(changed, step.name)
		}
	}
	v.set = want
	if v.Spec.has(config.IPv6) && !fitsIPv6(want.MTU) {
		return changed, fmt.Errorf("VNIC %s: IPv6 is off: %w", v.Spec.Iface, &SmallMTUError{want.NIC, want.MTU})
	}
	return changed, nil
}

// differences names the steps of Configure that must change something because the wanted
// settings differ from those before.
func (v *VNICSetup) differences(want VNICSettings) map[string]bool {
	s := v.set
	routes := s.Router != want.Router || !maps.Equal(s.Neighbours, want.Neighbours)
	ours := map[string]bool{
		"MTU": s.MTU != want.MTU, "rule": routes, "routes": routes, "rule's default route": s.Via != want.Via,
		"default route": s.HostRoute != want.HostRoute || s.Via != want.Via, "neighbours": !maps.Equal(s.Neighbours, want.Neighbours),
	}
	if v.Spec.has(config.IPv6) && fitsIPv6(s.MTU) != fitsIPv6(want.MTU) { // the kernel has taken IPv6 off the device, or puts it there
		for _, step := range []string{"sysctls", "rule", "address", "routes", "rule's default route", "default route", "neighbours"} {
			ours[step] = true
		}
	}
	return ours
}

// families lists the families in which the VNIC is set up. IPv6 is not among them while the
// MTU is too small for it.
func (v *VNICSetup) families(want VNICSettings) (families []config.Family) {
	for f := range config.Families {
		if v.Spec.has(f) && (f == config.IPv4 || fitsIPv6(want.MTU)) {
			families = append(families, f)
		}
	}
	return families
}

// each does something for each family in which the VNIC is set up.
func (v *VNICSetup) each(want VNICSettings, ensure func(config.Family) (bool, error)) (changed bool, err error) {
	for _, f := range v.families(want) {
		differed, err := ensure(f)
		changed = changed || differed
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// Link returns the device as the kernel has it now.
func (v *VNICSetup) Link() (netlink.Link, error) { return v.NS.Netlink.LinkByIndex(v.Ifindex) }

func (v *VNICSetup) ensureName(VNICSettings) (bool, error) {
	link, err := v.Link()
	if err != nil || link.Attrs().Name == v.Spec.Iface {
		return false, err
	}
	if err := v.NS.Netlink.LinkSetDown(link); err != nil {
		return false, err
	}
	return true, v.NS.Netlink.LinkSetName(link, v.Spec.Iface)
}

func (v *VNICSetup) ensureMAC(VNICSettings) (bool, error) {
	link, err := v.Link()
	if err != nil || slices.Equal(link.Attrs().HardwareAddr, v.Spec.MAC[:]) {
		return false, err
	}
	return true, v.NS.Netlink.LinkSetHardwareAddr(link, net.HardwareAddr(v.Spec.MAC[:]))
}

func (v *VNICSetup) ensureMTU(want VNICSettings) (bool, error) {
	link, err := v.Link()
	if err != nil || link.Attrs().MTU == want.MTU {
		return false, err
	}
	return true, v.NS.Netlink.LinkSetMTU(link, want.MTU)
}

func (v *VNICSetup) ensureSysctls(want VNICSettings) (changed bool, err error) {
	sysctls := v.sysctls
	if v.Spec.has(config.IPv6) {
		if fitsIPv6(want.MTU) {
			sysctls = append(slices.Clone(sysctls), sysctl{mtuIPv6, strconv.Itoa(want.MTU)})
		} else { // the device has none of them
			sysctls = vnicSysctls
		}
	}
	err = v.NS.Do(func() (err error) {
		changed, err = SetSysctls(v.Spec.Iface, sysctls)
		return err
	})
	return changed, err
}

func (v *VNICSetup) ensureUp(VNICSettings) (bool, error) {
	link, err := v.Link()
	if err != nil || link.Attrs().Flags&net.FlagUp != 0 {
		return false, err
	}
	return true, v.NS.Netlink.LinkSetUp(link)
}

// ensureAddress keeps the addresses. The kernel must not make a route on the link to a whole
// network of IPv6, which has more hosts than the table of neighbours has room for.
func (v *VNICSetup) ensureAddress(want VNICSettings) (bool, error) {
	link, err := v.Link()
	if err != nil {
		return false, err
	}
	return v.each(want, func(f config.Family) (bool, error) {
		address := &netlink.Addr{IPNet: IPNet(v.Spec.Addresses[f])}
		if f == config.IPv6 {
			address.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
		}
		return added(v.NS.Netlink.AddrAdd(link, address))
	})
}

// added tells by the kernel's answer whether something had to be added. Nobody looks it up in
// a list, because root in the namespace can make the list arbitrarily long.
func added(err error) (bool, error) {
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

func (v *VNICSetup) ensureRoutes(want VNICSettings) (bool, error) {
	return v.each(want, func(f config.Family) (bool, error) {
		if f == config.IPv6 {
			return v.ensureNetworkByRouter(want, unix.RT_TABLE_MAIN)
		}
		return v.ensurePaperRoutes()
	})
}

// ensurePaperRoutes keeps the two routes of the paper's Fig-4 to the segment's network. The
// kernel makes the route on the link together with the address. Before it stands a route with
// the VNIC's own address as its next hop, which `route add -net … gw …` makes in the paper.
func (v *VNICSetup) ensurePaperRoutes() (bool, error) {
	subnet, own := IPNet(v.Spec.Addresses[config.IPv4].Masked()), net.IP(v.Spec.Addresses[config.IPv4].Addr().AsSlice())
	last, err := added(v.NS.Netlink.RouteAppend(&netlink.Route{
		LinkIndex: v.Ifindex, Dst: subnet, Src: own, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_KERNEL,
	}))
	if err != nil {
		return false, err
	}
	first, err := added(v.NS.Netlink.RouteAddEcmp(&netlink.Route{LinkIndex: v.Ifindex, Dst: subnet, Gw: own}))
	return first || last, err
}

// Metrics of our routes for IPv6, in which the least metric comes first.
const (
	firstMetric = 1    // before the route that the kernel makes with an address that somebody adds
	lastMetric  = 2048 // behind the host's own default routes
)

// ensureNetworkByRouter keeps the routes of a table to the segment's IPv6 network: the fixed
// aliases are on the link, and everything else is behind the first of them. Linux refuses the
// VNIC's own address as a next hop. A route on the link to the whole network would let every
// client take an entry of the table of neighbours (A3, A6).
func (v *VNICSetup) ensureNetworkByRouter(want VNICSettings, table int) (changed bool, err error) {
	if !want.Router.IsValid() {
		return false, nil
	}
	if before := v.set.Router; before.IsValid() && before != want.Router {
		if err := ignoreMissing(v.NS.Netlink.RouteDel(v.networkByRouter(before, table))); err != nil {
			return false, err
		}
	}
	var routes []*netlink.Route
	for _, alias := range append(neighboursOf(want, config.IPv6), want.Router) {
		routes = append(routes, v.onLink(netip.PrefixFrom(alias, alias.BitLen()), table))
	}
	for _, route := range append(routes, v.networkByRouter(want.Router, table)) {
		missed, err := added(v.NS.Netlink.RouteAddEcmp(route))
		changed = changed || missed
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

func (v *VNICSetup) onLink(to netip.Prefix, table int) *netlink.Route {
	return &netlink.Route{LinkIndex: v.Ifindex, Table: table, Dst: IPNet(to), Priority: firstMetric}
}

func (v *VNICSetup) networkByRouter(router netip.Addr, table int) *netlink.Route {
	return &netlink.Route{LinkIndex: v.Ifindex, Table: table, Dst: IPNet(v.Spec.Addresses[config.IPv6].Masked()), Gw: router.AsSlice(), Priority: firstMetric}
}

// ensureHostRoute keeps the default routes of the namespace by this VNIC, or their
// absence. Sockets that are bound to nothing get the segment's address.
func (v *VNICSetup) ensureHostRoute(want VNICSettings) (bool, error) {
	return v.each(want, func(f config.Family) (bool, error) {
		if !want.HostRoute || !want.Via[f].IsValid() {
			err := v.NS.Netlink.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: Anywhere[f], Scope: netlink.SCOPE_NOWHERE})
			return err == nil, ignoreMissing(err)
		}
		if err := v.dropStaleRoute(f, want, v.hostRoute); err != nil {
			return false, err
		}
		return added(v.NS.Netlink.RouteAppend(v.hostRoute(want.Via[f])))
	})
}

// hostRoute returns the default route of the namespace. In IPv6 the kernel prefers the
// address of the device by which a packet leaves, so that the route need not name it.
func (v *VNICSetup) hostRoute(via netip.Addr) *netlink.Route {
	route := &netlink.Route{LinkIndex: v.Ifindex, Gw: via.AsSlice(), Protocol: unix.RTPROT_STATIC}
	if via.Is4() {
		route.Src = v.Spec.Addresses[config.IPv4].Addr().AsSlice()
	} else {
		route.Priority = lastMetric
	}
	return route
}

// Anywhere is the destination of a default route of each family.
var Anywhere = [config.Families]*net.IPNet{IPNet(netip.MustParsePrefix("0.0.0.0/0")), IPNet(netip.MustParsePrefix("::/0"))}

// neighboursOf lists the wanted neighbours of a family.
func neighboursOf(want VNICSettings, f config.Family) (hosts []netip.Addr) {
	for host := range want.Neighbours {
		if config.FamilyOf(host) == f {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// ensureNeighbours makes each alias a permanent neighbour. Aliases that are no longer wanted
// keep their MACs, because flows may still use them.
func (v *VNICSetup) ensureNeighbours(want VNICSettings) (changed bool, err error) {
	socket, err := NewNeighbourSocket(v.NS, v.Ifindex)
	if err != nil {
		return false, err
	}
	defer socket.Close()
	var aliases []netip.Addr
	for _, f := range v.families(want) {
		aliases = append(aliases, neighboursOf(want, f)...)
	}
	has, err := socket.permanent(aliases)
	if err != nil {
		return false, err
	}
	differ := slices.DeleteFunc(aliases, func(alias netip.Addr) bool { return has[alias] == want.Neighbours[alias] })
	return len(differ) > 0, socket.Set(differ, want.Neighbours)
}

// IPNet converts a prefix to the form that package netlink takes.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
