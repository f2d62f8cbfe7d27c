package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// tunError explains why /dev/net/tun cannot be opened, and how to mend that.
func tunError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s is missing: load the module (modprobe tun); in a container, pass the device in (--device %s)", tunPath, tunPath)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened by this user: %w (its usual mode is 0666)", tunPath, err)
	default:
		return fmt.Errorf("opening %s: %w", tunPath, err)
	}
}

// Check returns the first problem that keeps a configuration from being put in force here, or
// nil. own names the VNICs that the plane made.
func (m *Machine) Check(cfg *config.Config, own map[string]bool) error {
	if problems := m.Problems(cfg, own); len(problems) > 0 {
		return problems[0]
	}
	return nil
}

// Problems returns everything that keeps a configuration from being put in force here. It
// changes nothing. own names the VNICs that the plane made.
func (m *Machine) Problems(cfg *config.Config, own map[string]bool) (problems []error) {
	found := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	found(checkTUN())
	devices, err := m.Devices()
	if err != nil {
		return append(problems, err)
	}
	if len(own) == 0 { // the first start: another instance explains devices that exist already
		for _, name := range config.SortedKeys(cfg.Bridges) {
			if err := m.checkOwner("nic", cfg.Bridges[name].NIC, devices); err != nil {
				found(&config.Error{Part: "bridge", Name: name, Err: err})
			}
		}
		for _, name := range config.SortedKeys(cfg.Segments) {
			if err := m.checkOwner("device", cfg.Segments[name].Device, devices); err != nil {
				found(&config.Error{Part: "segment", Name: name, Err: err})
			}
		}
	}
	for _, name := range config.SortedKeys(cfg.Segments) {
		if s := cfg.Segments[name]; s.Remote() {
			if err := m.checkDevice(s, devices); err != nil {
				found(&config.Error{Part: "segment", Name: name, Err: err})
			}
			continue
		}
		iface := cfg.Segments[name].InterfaceName(name)
		if there := devices[iface]; there != nil && !own[iface] && !isStalePair(m.NS, there) {
			found(&config.Error{Part: "segment", Name: name, Err: existsError(iface)})
		}
	}
	for _, name := range config.SortedKeys(cfg.Bridges) {
		err := checkNIC(cfg.Bridges[name].NIC, devices)
		if err == nil {
			err = m.checkBridgeNetfilter(cfg.Bridges[name], devices)
		}
		if err == nil {
			err = checkMTU(cfg, name, devices)
		}
		if err != nil {
			found(&config.Error{Part: "bridge", Name: name, Err: err})
		}
	}
	found(m.checkDefaultRoute(cfg, own))
	found(m.checkAddresses(cfg, own))
	return problems
}

func checkTUN() error {
	tun, err := os.OpenFile(tunPath, os.O_RDWR, 0)
	if err != nil {
		return tunError(err)
	}
	return tun.Close()
}

// Devices lists the devices by their names.
func (m *Machine) Devices() (map[string]netlink.Link, error) {
	links, err := RetryDump(m.NS.Netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing the devices: %w", err)
	}
	devices := make(map[string]netlink.Link)
	for _, l := range links {
		devices[l.Attrs().Name] = l
	}
	return devices, nil
}

// checkMTU refuses a NIC whose MTU is too small for IPv6, if the bridge or a segment behind it
// has IPv6 (F8).
func checkMTU(cfg *config.Config, bridge string, devices map[string]netlink.Link) error {
	nic := cfg.Bridges[bridge].NIC
	ipv6 := cfg.Bridges[bridge].Address(config.IPv6).IsValid()
	for name, s := range cfg.Segments {
		ipv6 = ipv6 || s.Address(config.IPv6).IsValid() && slices.Contains(cfg.BridgesOf(name), bridge)
	}
	if mtu := devices[nic].Attrs().MTU; ipv6 && !fitsIPv6(mtu) {
		return &SmallMTUError{nic, mtu}
	}
	return nil
}

// checkDefaultRoute refuses a segment's default_route if the host has a default route of the
// same family. A route from a router advertisement is no reason to refuse, because it can come
// and go at any time. While it is there, it comes first.
func (m *Machine) checkDefaultRoute(cfg *config.Config, own map[string]bool) error {
	for _, name := range config.SortedKeys(cfg.Segments) {
		if !cfg.Segments[name].DefaultRoute {
			continue
		}
		for f := range config.Families {
			if !cfg.Segments[name].Address(f).IsValid() || len(cfg.GatewaysOf(name, f)) == 0 {
				continue // the segment gives no default route of this family
			}
			if err := m.checkNoDefaultRoute(f, own); err != nil {
				return &config.Error{Part: "segment", Name: name, Err: err}
			}
		}
	}
	return nil
}

func (m *Machine) checkNoDefaultRoute(f config.Family, own map[string]bool) error {
	routes, err := m.DefaultRoutes(f)
	if err != nil {
		return err
	}
	for _, r := range routes {
		device := fmt.Sprintf("device %d", r.LinkIndex)
		if link, err := m.NS.Netlink.LinkByIndex(r.LinkIndex); err == nil {
			device = link.Attrs().Name
		}
		if !own[device] && r.Protocol != unix.RTPROT_RA {
			return fmt.Errorf("default_route: the host has a default route already (%s), which is never replaced: take default_route away, or the route", describeRoute(r, device))
		}
	}
	return nil
}

// DefaultRoutes lists the default routes of the host's main table.
func (m *Machine) DefaultRoutes(f config.Family) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Dst: Anywhere[f]}
	routes, err := RetryDump(func() ([]netlink.Route, error) {
		return m.NS.Netlink.RouteListFiltered(netlinkFamily(f), filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the default routes: %w", err)
	}
	return routes, nil
}

// describeRoute writes a default route as the ip command does.
func describeRoute(r netlink.Route, device string) string {
	text := "default"
	if r.Gw != nil {
		text += " via " + r.Gw.String()
	}
	text += " dev " + device
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	return text
}

// checkNIC returns why a device cannot be a bridge's NIC, or nil.
func checkNIC(nic string, devices map[string]netlink.Link) error {
	return checkEthernet("nic", nic, devices)
}

// checkEthernet returns why a device, which an option names, does not receive all frames of a
// network, or nil.
func checkEthernet(option, name string, devices map[string]netlink.Link) error {
	link := devices[name]
	if link == nil {
		names := slices.Sorted(maps.Keys(devices))
		return fmt.Errorf("%s %s: no such device; this machine has %s", option, name, strings.Join(names, ", "))
	}
	a := link.Attrs()
	if a.Flags&net.FlagLoopback != 0 || a.EncapType != "ether" {
		return fmt.Errorf("%s %s: it is no Ethernet device (%s)", option, name, a.EncapType)
	}
	if reason := unfitKinds[link.Type()]; reason != "" {
		return fmt.Errorf("%s %s is of kind %s, %s", option, name, link.Type(), reason)
	}
	if a.MasterIndex == 0 {
		return nil
	}
	for _, master := range devices {
		if master.Attrs().Index == a.MasterIndex {
			return memberError(option, name, master)
		}
	}
	return fmt.Errorf("%s %s is a member of device %d: take it out (ip link set %s nomaster)", option, name, a.MasterIndex, name)
}

// checkBridgeNetfilter refuses a NIC on a Linux bridge whose packets pass the host's packet
// filter (br_netfilter, which Docker and Kubernetes load). Our rules in that filter keep the
// host's kernel off the pseudo address, so they would drop the packets before the NIC.
func (m *Machine) checkBridgeNetfilter(bridge *config.Bridge, devices map[string]netlink.Link) error {
	var calls []string
	for f, call := range [config.Families]string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		if bridge.Address(config.Family(f)).IsValid() {
			calls = append(calls, call)
		}
	}
	if below, call := m.filteredBridge(bridge.NIC, devices, calls); call != "" {
		return fmt.Errorf("nic %s: br_netfilter gives the packets of bridge %s to the host's packet filter, which drops those for the pseudo address before they come to the NIC: switch that off (sysctl -w net.bridge.%s=0), or name another device", bridge.NIC, below, call)
	}
	return nil
}

// filteredBridge returns the Linux bridge that a device is, or is on, and the first of some sysctls
// that gives the bridge's packets to the host's packet filter. call is empty if there is none.
func (m *Machine) filteredBridge(device string, devices map[string]netlink.Link, calls []string) (bridge, call string) {
	byIndex := make(map[int]netlink.Link)
	for _, link := range devices {
		byIndex[link.Attrs().Index] = link
	}
	below := devices[device]
	for range len(devices) { // a VLAN or macvlan on a bridge, or on another one
		if below == nil || below.Type() == "bridge" {
			break
		}
		below = byIndex[below.Attrs().ParentIndex]
	}
	if below == nil || below.Type() != "bridge" {
		return "", ""
	}
	for _, call := range calls {
		var on []byte
		err := m.NS.Do(func() (err error) {
			on, err = os.ReadFile("/proc/sys/net/bridge/" + call)
			return err
		})
		if err == nil && strings.TrimSpace(string(on)) == "1" { // without the file there is no br_netfilter
			return below.Attrs().Name, call
		}
	}
	return "", ""
}

// unfitKinds are the kinds of Ethernet devices that cannot receive frames for an address that
// the host does not have. Each has the reason, and what to use instead.
var unfitKinds = map[string]string{
	"vrf":         "a routing table that passes no frames: name the device that faces the network, outside of the VRF",
	"ipvlan":      "which passes only packets of its own addresses, and a pseudo address belongs to no device: make it a macvlan",
	"ipvtap":      "which passes only packets of its own addresses, and a pseudo address belongs to no device: make it a macvlan",
	"macvtap":     "whose frames go to the program that opened it: make it a macvlan",
	"openvswitch": "the switch itself, which passes no frames: name an internal port of the Open vSwitch bridge (ovs-vsctl add-port <bridge> vnic0 -- set interface vnic0 type=internal)",
}

// memberError returns the error for a device that is a member of another one, with the fix.
func memberError(option, device string, master netlink.Link) error {
	name, kind := master.Attrs().Name, master.Type()
	takeOut := fmt.Sprintf("take %s out (ip link set %s nomaster)", device, device)
	switch kind {
	case "vrf":
		return fmt.Errorf("%s %s is a member of %s (vrf), whose routes its packets would take: %s", option, device, name, takeOut)
	case "openvswitch":
		return fmt.Errorf("%s %s is a port of an Open vSwitch bridge (%s), which takes its frames: name an internal port of the bridge as the %[1]s (ovs-vsctl add-port <bridge> vnic0 -- set interface vnic0 type=internal), or take %[2]s out (ovs-vsctl del-port %[2]s)", option, device, name)
	default:
		return fmt.Errorf("%s %s is a member of %s (%s), which takes its frames first: name %s as the %s, or %s", option, device, name, kind, name, option, takeOut)
	}
}

// checkAddresses finds addresses of the host that a bridge or a segment claims.
func (m *Machine) checkAddresses(cfg *config.Config, own map[string]bool) error {
	prefixes, err := m.HostPrefixes()
	if err != nil {
		return err
	}
	for _, h := range prefixes {
		if own[h.Device] {
			continue
		}
		for _, name := range config.SortedKeys(cfg.Segments) {
			own := cfg.Segments[name].Address(config.FamilyOf(h.Prefix.Addr()))
			if own.Masked().Overlaps(h.Prefix.Masked()) {
				return &config.Error{Part: "segment", Name: name, Err: fmt.Errorf("address %s overlaps %s, which this host has on %s: choose another network for the segment", own, h.Prefix, h.Device)}
			}
		}
		for _, name := range config.SortedKeys(cfg.Bridges) {
			b := cfg.Bridges[name]
			if pseudo := b.Address(config.FamilyOf(h.Prefix.Addr())).Addr(); pseudo == h.Prefix.Addr() {
				return &config.Error{Part: "bridge", Name: name, Err: inUseError(pseudo, h.Device)}
			}
			if h == (Prefix{b.NIC, netip.PrefixFrom(b.LinkLocal, h.Prefix.Bits())}) {
				return &config.Error{Part: "bridge", Name: name, Err: fmt.Errorf("link_local %s is this host's own address on %s, and the host answers for it: take link_local away, or the host's IPv6 (sysctl -w net.ipv6.conf.%s.disable_ipv6=1)", b.LinkLocal, h.Device, h.Device)}
			}
		}
	}
	return nil
}

func inUseError(pseudo netip.Addr, device string) error {
	return fmt.Errorf("address %s is this host's own, on %s: a pseudo address belongs to no device; choose another or take it away (ip addr del %s dev %s)", pseudo, device, pseudo, device)
}
