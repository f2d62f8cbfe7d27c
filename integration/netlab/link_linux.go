package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End is one end of a link between two hosts.
type End struct {
	Host    *Host
	Device  string           // the name that its device gets
	MAC     net.HardwareAddr // nil: the kernel chooses
	Address netip.Prefix     // zero: none

	// V6 are the IPv6 addresses. Without any, IPv6 is off on the device. A link-local address
	// here is the only one; else the kernel makes one.
	V6 []netip.Prefix
}

// Link joins two hosts by a cable, a pair of veth devices, and sets both ends up.
func (n *Network) Link(a, b End) error {
	err := a.Host.netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: a.Device, HardwareAddr: a.MAC},
		PeerName:         b.Device,
		PeerHardwareAddr: b.MAC,
		PeerNamespace:    netlink.NsFd(b.Host.ns),
	})
	if err != nil {
		return fmt.Errorf("lab: link %s of %s to %s of %s: %w", a.Device, a.Host.name, b.Device, b.Host.name, err)
	}
	for _, e := range []End{a, b} {
		if err := e.up(); err != nil {
			return fmt.Errorf("lab: set up %s of %s: %w", e.Device, e.Host.name, err)
		}
	}
	return errors.Join(a.waitUp(), b.waitUp())
}

func (e End) up() error {
	link, err := e.Host.netlink.LinkByName(e.Device)
	if err != nil {
		return err
	}
	if e.Address.IsValid() {
		if err := e.Host.netlink.AddrAdd(link, &netlink.Addr{IPNet: IPNet(e.Address)}); err != nil {
			return err
		}
	}
	if len(e.V6) == 0 {
		return e.Host.netlink.LinkSetUp(link)
	}
	return e.upWithIPv6(link)
}

// upWithIPv6 sets the device up with IPv6 addresses that are in use at once, without
// duplicate address detection. The host takes nothing from Router Advertisements.
func (e End) upWithIPv6(link netlink.Link) error {
	settings := map[string]string{
		"accept_ra": "0", "autoconf": "0", "router_solicitations": "0", "accept_dad": "0", "dad_transmits": "0",
		"keep_addr_on_down": "1", "addr_gen_mode": "0",
	}
	if slices.ContainsFunc(e.V6, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() }) {
		settings["addr_gen_mode"] = "1" // IN6_ADDR_GEN_MODE_NONE
	}
	for name, value := range settings {
		if err := e.Host.Sysctl("net/ipv6/conf/"+e.Device+"/"+name, value); err != nil {
			return err
		}
	}
	if err := e.Host.enableIPv6(e.Device); err != nil {
		return err
	}
	if err := e.Host.netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, p := range e.V6 {
		if err := e.Host.netlink.AddrAdd(link, &netlink.Addr{IPNet: IPNet(p), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	return nil
}

// EnableIPv6 turns IPv6 on for the host itself and for the devices that it gets from now on.
// Those that it has stay without.
func (h *Host) EnableIPv6() error { return h.enableIPv6("default") }

// enableIPv6 turns IPv6 on for a device, and for the loopback device: what the kernel sends
// to an address of its own passes there.
func (h *Host) enableIPv6(device string) error {
	for _, d := range []string{"lo", device} {
		if err := h.Sysctl("net/ipv6/conf/"+d+"/disable_ipv6", "0"); err != nil {
			return fmt.Errorf("lab: IPv6 on %s of %s: %w", d, h.name, err)
		}
	}
	return nil
}

// waitUp waits until the device carries frames, and until others can resolve its IPv6
// addresses. The kernel activates the end that came up first with the next carrier event, up
// to 1 s later, and until then drops what is sent.
func (e End) waitUp() error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		link, err := e.Host.netlink.LinkByName(e.Device)
		if err == nil && link.Attrs().OperState == netlink.OperUp && e.listens() && e.reaches() {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("lab: %s of %s does not come up", e.Device, e.Host.name), err)
		}
	}
}

// reaches tells whether the routes of the device's IPv6 networks are in use. The kernel revives
// them a moment after the carrier is there.
func (e End) reaches() bool {
	return !slices.ContainsFunc(e.V6, func(p netip.Prefix) bool {
		_, err := e.Host.netlink.RouteGet(p.Addr().Next().AsSlice())
		return err != nil && !p.Addr().IsLinkLocalUnicast()
	})
}

// listens tells whether the device listens for questions about its IPv6 addresses. The kernel
// joins the groups for them a moment after an address is there (addrconf_dad_work of
// net/ipv6/addrconf.c).
func (e End) listens() bool {
	var groups []byte
	err := e.Host.Do(func() (err error) {
		if len(e.V6) > 0 {
			groups, err = os.ReadFile("/proc/thread-self/net/igmp6")
		}
		return err
	})
	return err == nil && !slices.ContainsFunc(e.V6, func(p netip.Prefix) bool {
		a := p.Addr().As16()
		solicitedNode := fmt.Sprintf(" %s ff0200000000000000000001ff%x ", e.Device, a[13:])
		return !strings.Contains(strings.Join(strings.Fields(string(groups)), " "), solicitedNode)
	})
}

// DefaultRoute makes the host send packets that no other route matches to a gateway.
func (h *Host) DefaultRoute(gateway netip.Addr) error {
	if err := h.netlink.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("lab: default route of %s by %s: %w", h.name, gateway, err)
	}
	return nil
}

// RouteBy makes the host send packets for one address to a gateway.
func (h *Host) RouteBy(target, gateway netip.Addr) error {
	route := &netlink.Route{Dst: IPNet(netip.PrefixFrom(target, target.BitLen())), Gw: gateway.AsSlice()}
	if err := h.netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("lab: route of %s to %s by %s: %w", h.name, target, gateway, err)
	}
	return nil
}

// Bridge joins ports of the host by an Ethernet bridge, so that the host is a switch.
func (h *Host) Bridge(device string, ports ...string) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: device}, MulticastSnooping: new(bool)}
	if err := h.netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("lab: bridge %s on %s: %w", device, h.name, err)
	}
	for _, port := range ports {
		link, err := h.netlink.LinkByName(port)
		if err == nil {
			err = h.netlink.LinkSetMaster(link, bridge)
		}
		if err != nil {
			return fmt.Errorf("lab: port %s of bridge %s on %s: %w", port, device, h.name, err)
		}
	}
	return h.netlink.LinkSetUp(bridge)
}

// ethtoolOffloads are the switches of a device's offloads (ETHTOOL_S* of
// include/uapi/linux/ethtool.h), checksums last: the kernel turns segmentation
// off by itself when they go.
var ethtoolOffloads = []uint32{
	unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO, unix.ETHTOOL_SSG, unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SRXCSUM,
}

// SetOffloads turns checksum and segmentation offloads of a device on or off.
// Without them every frame on the link has the size and the checksums that it would
// have on a wire.
func (h *Host) SetOffloads(device string, on bool) error {
	return h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, command := range ethtoolOffloads {
			err := ethtoolSet(fd, device, command, on)
			if err != nil && err != unix.EOPNOTSUPP { // a switch that the device lacks is off
				return fmt.Errorf("lab: ethtool command %#x on %s of %s: %w", command, device, h.name, err)
			}
		}
		return nil
	})
}

// ethtoolSet is the SIOCETHTOOL call with a struct ethtool_value.
func ethtoolSet(fd int, device string, command uint32, on bool) error {
	value := struct{ command, data uint32 }{command: command}
	if on {
		value.data = 1
	}
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	request.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
