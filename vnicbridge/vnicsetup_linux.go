package vnicbridge

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vnicSetup keeps a VNIC's device as it should be: name, MAC, MTU, sysctls,
// address, routes, rule and neighbours. Every step looks first and changes only
// what differs, so that the same code sets a new device up and puts back what
// somebody else has changed.
type vnicSetup struct {
	ns      *namespace
	spec    vnicSpec
	sysctls []sysctl
	ifindex int
	set     vnicSettings // by the last configure
}

// find finds the device by its name.
func (v *vnicSetup) find() error {
	link, err := v.ns.netlink.LinkByName(v.spec.iface)
	if err != nil {
		return fmt.Errorf("finding the device: %w", err)
	}
	v.ifindex = link.Attrs().Index
	return nil
}

func (v *vnicSetup) index() int { return v.ifindex }

func (v *vnicSetup) do(f func() error) error { return v.ns.do(f) }

// configure makes the device as it should be, and tells what somebody else had changed.
func (v *vnicSetup) configure(want vnicSettings) (changed []string, err error) {
	ours := v.set.differences(want)
	// The MAC comes early: to change it flushes even permanent neighbours.
	steps := []struct {
		name   string
		ensure func(vnicSettings) (bool, error)
	}{
		{"name", v.ensureName}, {"MAC", v.ensureMAC}, {"MTU", v.ensureMTU}, {"sysctls", v.ensureSysctls},
		{"state", v.ensureUp}, {"rule", v.ensureRule}, {"address", v.ensureAddress}, {"routes", v.ensureRoutes},
		{"rule's default route", v.ensureDefaultRoute}, {"default route", v.ensureHostRoute}, {"neighbours", v.ensureNeighbours},
	}
	for _, step := range steps {
		differed, err := step.ensure(want)
		if err != nil {
			return changed, fmt.Errorf("VNIC %s: setting its %s: %w", v.spec.iface, step.name, err)
		}
		if differed && !ours[step.name] {
			changed = append(changed, step.name)
		}
	}
	v.set = want
	return changed, nil
}

// differences names the steps of configure that must change something because the wanted
// settings are not those of before.
func (s vnicSettings) differences(want vnicSettings) map[string]bool {
	return map[string]bool{
		"MTU": s.mtu != want.mtu, "rule's default route": s.via != want.via, "default route": s.hostRoute != want.hostRoute || s.via != want.via,
		"neighbours": !maps.Equal(s.neighbours, want.neighbours),
	}
}

func (v *vnicSetup) link() (netlink.Link, error) { return v.ns.netlink.LinkByIndex(v.ifindex) }

func (v *vnicSetup) ensureName(vnicSettings) (bool, error) {
	link, err := v.link()
	if err != nil || link.Attrs().Name == v.spec.iface {
		return false, err
	}
	if err := v.ns.netlink.LinkSetDown(link); err != nil {
		return false, err
	}
	return true, v.ns.netlink.LinkSetName(link, v.spec.iface)
}

func (v *vnicSetup) ensureMAC(vnicSettings) (bool, error) {
	link, err := v.link()
	if err != nil || slices.Equal(link.Attrs().HardwareAddr, v.spec.mac[:]) {
		return false, err
	}
	return true, v.ns.netlink.LinkSetHardwareAddr(link, net.HardwareAddr(v.spec.mac[:]))
}

func (v *vnicSetup) ensureMTU(want vnicSettings) (bool, error) {
	link, err := v.link()
	if err != nil || link.Attrs().MTU == want.mtu {
		return false, err
	}
	return true, v.ns.netlink.LinkSetMTU(link, want.mtu)
}

func (v *vnicSetup) ensureSysctls(vnicSettings) (changed bool, err error) {
	err = v.ns.do(func() (err error) {
		changed, err = setSysctls(v.spec.iface, v.sysctls)
		return err
	})
	return changed, err
}

func (v *vnicSetup) ensureUp(vnicSettings) (bool, error) {
	link, err := v.link()
	if err != nil || link.Attrs().Flags&net.FlagUp != 0 {
		return false, err
	}
	return true, v.ns.netlink.LinkSetUp(link)
}

func (v *vnicSetup) ensureAddress(vnicSettings) (bool, error) {
	link, err := v.link()
	if err != nil {
		return false, err
	}
	return added(v.ns.netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(v.spec.address)}))
}

// added tells by the kernel's answer whether something had to be added. Looking in a list
// would be worse: whoever is root in the namespace can make the list arbitrarily long.
func added(err error) (bool, error) {
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

// ensureRoutes keeps the two routes of the paper's Fig-4 to the segment's network: by way of
// the VNIC's own address, and on the link. The kernel makes the second one with the address.
// Ours comes before that, as with `route add -net … gw …`.
func (v *vnicSetup) ensureRoutes(vnicSettings) (bool, error) {
	subnet, own := ipNet(v.spec.address.Masked()), net.IP(v.spec.address.Addr().AsSlice())
	last, err := added(v.ns.netlink.RouteAppend(&netlink.Route{
		LinkIndex: v.ifindex, Dst: subnet, Src: own, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_KERNEL,
	}))
	if err != nil {
		return false, err
	}
	first, err := added(v.ns.netlink.RouteAddEcmp(&netlink.Route{LinkIndex: v.ifindex, Dst: subnet, Gw: own}))
	return first || last, err
}

// ensureHostRoute keeps the default route of the namespace by this VNIC, or its
// absence. Sockets that are bound to nothing get the segment's address.
func (v *vnicSetup) ensureHostRoute(want vnicSettings) (bool, error) {
	if !want.hostRoute {
		err := v.ns.netlink.RouteDel(&netlink.Route{LinkIndex: v.ifindex, Dst: anywhere, Scope: netlink.SCOPE_NOWHERE})
		return err == nil, ignoreMissing(err)
	}
	if err := v.dropStaleRoute(want, v.hostRoute); err != nil {
		return false, err
	}
	return added(v.ns.netlink.RouteAppend(v.hostRoute(want.via)))
}

func (v *vnicSetup) hostRoute(via netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: v.ifindex, Gw: via.AsSlice(), Src: v.spec.address.Addr().AsSlice(), Protocol: unix.RTPROT_STATIC}
}

var anywhere = ipNet(netip.MustParsePrefix("0.0.0.0/0"))

// ensureNeighbours makes a permanent neighbour of each alias. Aliases that are no longer
// named keep their MACs, because flows may still use them.
func (v *vnicSetup) ensureNeighbours(want vnicSettings) (changed bool, err error) {
	socket, err := newNeighbourSocket(v.ns, v.ifindex)
	if err != nil {
		return false, err
	}
	defer socket.close()
	has, err := socket.permanent(slices.Collect(maps.Keys(want.neighbours)))
	if err != nil {
		return false, err
	}
	var differ []netip.Addr
	for alias, mac := range want.neighbours {
		if has[alias] != mac {
			differ = append(differ, alias)
		}
	}
	return len(differ) > 0, socket.set(differ, want.neighbours)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
