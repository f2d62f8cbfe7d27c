package host

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

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

// Configure makes the device as it should be, and names what somebody else had changed.
func (v *VNICSetup) Configure(want VNICSettings) (changed []string, err error) {
	ours := v.set.differences(want)
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
	return changed, nil
}

// differences names the steps of Configure that must change something because the wanted
// settings differ from those before.
func (s VNICSettings) differences(want VNICSettings) map[string]bool {
	return map[string]bool{
		"MTU": s.MTU != want.MTU, "rule's default route": s.Via != want.Via, "default route": s.HostRoute != want.HostRoute || s.Via != want.Via,
		"neighbours": !maps.Equal(s.Neighbours, want.Neighbours),
	}
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

func (v *VNICSetup) ensureSysctls(VNICSettings) (changed bool, err error) {
	err = v.NS.Do(func() (err error) {
		changed, err = SetSysctls(v.Spec.Iface, v.sysctls)
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

func (v *VNICSetup) ensureAddress(VNICSettings) (bool, error) {
	link, err := v.Link()
	if err != nil {
		return false, err
	}
	return added(v.NS.Netlink.AddrAdd(link, &netlink.Addr{IPNet: IPNet(v.Spec.Addresses[config.IPv4])}))
}

// added tells by the kernel's answer whether something had to be added. Nobody looks it up in
// a list, because root in the namespace can make the list arbitrarily long.
func added(err error) (bool, error) {
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

// ensureRoutes keeps the two routes of the paper's Fig-4 to the segment's network. The kernel
// makes the route on the link together with the address. Before it stands a route with the
// VNIC's own address as its next hop, which `route add -net … gw …` makes in the paper.
func (v *VNICSetup) ensureRoutes(VNICSettings) (bool, error) {
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

// ensureHostRoute keeps the default route of the namespace by this VNIC, or its
// absence. Sockets that are bound to nothing get the segment's address.
func (v *VNICSetup) ensureHostRoute(want VNICSettings) (bool, error) {
	if !want.HostRoute {
		err := v.NS.Netlink.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: Anywhere, Scope: netlink.SCOPE_NOWHERE})
		return err == nil, ignoreMissing(err)
	}
	if err := v.dropStaleRoute(want, v.hostRoute); err != nil {
		return false, err
	}
	return added(v.NS.Netlink.RouteAppend(v.hostRoute(want.Via[config.IPv4])))
}

func (v *VNICSetup) hostRoute(via netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: v.Ifindex, Gw: via.AsSlice(), Src: v.Spec.Addresses[config.IPv4].Addr().AsSlice(), Protocol: unix.RTPROT_STATIC}
}

// Anywhere is the destination of a default route.
var Anywhere = IPNet(netip.MustParsePrefix("0.0.0.0/0"))

// ensureNeighbours makes each alias a permanent neighbour. Aliases that are no longer wanted
// keep their MACs, because flows may still use them.
func (v *VNICSetup) ensureNeighbours(want VNICSettings) (changed bool, err error) {
	socket, err := NewNeighbourSocket(v.NS, v.Ifindex)
	if err != nil {
		return false, err
	}
	defer socket.Close()
	has, err := socket.permanent(slices.Collect(maps.Keys(want.Neighbours)))
	if err != nil {
		return false, err
	}
	var differ []netip.Addr
	for alias, mac := range want.Neighbours {
		if has[alias] != mac {
			differ = append(differ, alias)
		}
	}
	return len(differ) > 0, socket.Set(differ, want.Neighbours)
}

// IPNet converts a prefix to the form that package netlink takes.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
