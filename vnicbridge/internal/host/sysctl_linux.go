package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sysctl is a setting of a device: its path under /proc/sys/net, with %s for the device.
type sysctl struct{ path, value string }

// VNICSysctls returns the settings of a VNIC. They end with the device. Settings of other
// devices, or of all devices, are never changed.
func VNICSysctls(ipv6 bool) []sysctl {
	if ipv6 {
		return append(slices.Clone(vnicSysctls), ipv6Sysctls...)
	}
	return append(slices.Clone(vnicSysctls), sysctl{disableIPv6, "1"})
}

var vnicSysctls = []sysctl{
	{"ipv4/conf/%s/forwarding", "0"},          // packets that come in are for the segment's address
	{"ipv4/conf/%s/accept_source_route", "0"}, // RFC 7126 §4.3
	{"ipv4/conf/%s/accept_redirects", "0"},
	{"ipv4/conf/%s/send_redirects", "0"},
	{"ipv4/conf/%s/arp_ignore", "1"}, // only for its own address
}

// ipv6Sysctls keep the kernel from doing anything by itself on a VNIC: it makes no addresses,
// believes no router, and asks nobody. IPv6 comes up last, because the kernel makes a
// link-local address at that moment unless addr_gen_mode forbids it.
var ipv6Sysctls = []sysctl{
	{addrGenMode, "1"}, // none
	{"ipv6/conf/%s/accept_ra", "0"},
	{"ipv6/conf/%s/autoconf", "0"},
	{"ipv6/conf/%s/use_tempaddr", "0"},
	{"ipv6/conf/%s/router_solicitations", "0"},
	{"ipv6/conf/%s/dad_transmits", "0"}, // an address that is tentative cannot be bound
	{"ipv6/conf/%s/accept_dad", "0"},
	{"ipv6/conf/%s/accept_redirects", "0"},
	{"ipv6/conf/%s/accept_source_route", "-1"}, // no routing header of any type
	{"ipv6/conf/%s/seg6_enabled", "0"},
	{"ipv6/conf/%s/rpl_seg_enabled", "0"},
	{"ipv6/conf/%s/proxy_ndp", "0"},
	{"ipv6/conf/%s/ndisc_notify", "0"},
	{"ipv6/conf/%s/keep_addr_on_down", "1"},
	{disableIPv6, "0"},
}

const (
	disableIPv6 = "ipv6/conf/%s/disable_ipv6"
	addrGenMode = "ipv6/conf/%s/addr_gen_mode"
	mtuIPv6     = "ipv6/conf/%s/mtu"
)

// outerSysctls are the settings of the outer end of a veth pair, which has no address and no
// route. They are a second defence: if another program on the device makes frames pass the
// filter of the dead end, each setting makes the host's kernel refuse a part of them.
var outerSysctls = []sysctl{
	{disableIPv6, "1"},
	{"ipv4/conf/%s/forwarding", "0"},
	{"ipv4/conf/%s/rp_filter", "1"}, // no source is behind a device without routes
	{"ipv4/conf/%s/accept_local", "0"},
	{"ipv4/conf/%s/route_localnet", "0"},
	{"ipv4/conf/%s/accept_source_route", "0"},
	{"ipv4/conf/%s/accept_redirects", "0"},
	{"ipv4/conf/%s/send_redirects", "0"},
	{"ipv4/conf/%s/arp_ignore", "8"}, // for no address
	{"ipv4/conf/%s/proxy_arp", "0"},
	{"ipv4/conf/%s/proxy_arp_pvlan", "0"},
}

// SlowPathSysctls are the settings of a TAP device of the slow path. Like the outer end of a
// veth pair, it has no address and no route, and what the host's own IPv6 would send there
// would be taken for frames from the network.
var SlowPathSysctls = outerSysctls

// SetSysctls writes the settings that differ, in the namespace of the calling thread, and
// tells whether any did.
func SetSysctls(device string, settings []sysctl) (changed bool, err error) {
	for _, s := range settings {
		is, err := s.read(device)
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.path == disableIPv6 && s.value == "0":
			return changed, errNoIPv6
		case errors.Is(err, fs.ErrNotExist), is == s.value:
			continue // the value is right, or this kernel does not have what it is about
		}
		changed = true
		if s.path == addrGenMode {
			// The kernel may have made a link-local address, which stays when the setting
			// changes. Without IPv6 the device has no addresses.
			if err := (sysctl{disableIPv6, "1"}).write(device); err != nil {
				return changed, err
			}
		}
		if err := s.write(device); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

var errNoIPv6 = errors.New("this kernel has no IPv6: start it without ipv6.disable=1, or give the segment no IPv6 address")

func (s sysctl) file(device string) string {
	return filepath.Join("/proc/sys/net", fmt.Sprintf(s.path, device))
}

func (s sysctl) read(device string) (string, error) {
	is, err := os.ReadFile(s.file(device))
	return strings.TrimSpace(string(is)), err
}

func (s sysctl) write(device string) error {
	if err := os.WriteFile(s.file(device), []byte(s.value), 0); err != nil {
		return fmt.Errorf("%s=%s: %w", s.file(device), s.value, err)
	}
	return nil
}
