package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctl is a setting of a device: its path under /proc/sys/net, with %s for the device.
type sysctl struct{ path, value string }

// VNICSysctls are the settings of a VNIC. They end with the device. Settings of other
// devices, or of all devices, are never changed.
var VNICSysctls = []sysctl{
	{"ipv6/conf/%s/disable_ipv6", "1"},        // until IPv6 is supported (S2)
	{"ipv4/conf/%s/forwarding", "0"},          // packets that come in are for the segment's address
	{"ipv4/conf/%s/accept_source_route", "0"}, // RFC 7126 §4.3
	{"ipv4/conf/%s/accept_redirects", "0"},
	{"ipv4/conf/%s/send_redirects", "0"},
	{"ipv4/conf/%s/arp_ignore", "1"}, // only for its own address
}

// outerSysctls are the settings of the outer end of a veth pair, which has no address and no
// route. They are a second defence: if another program on the device makes frames pass the
// filter of the dead end, each setting makes the host's kernel refuse a part of them.
var outerSysctls = []sysctl{
	{"ipv6/conf/%s/disable_ipv6", "1"},
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

// SetSysctls writes the settings that differ, in the namespace of the calling thread, and
// tells whether any did.
func SetSysctls(device string, settings []sysctl) (changed bool, err error) {
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net", fmt.Sprintf(s.path, device))
		is, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || strings.TrimSpace(string(is)) == s.value {
			continue // the value is right, or a kernel without IPv6 has nothing to switch off
		}
		changed = true
		if err := os.WriteFile(path, []byte(s.value), 0); err != nil {
			return changed, fmt.Errorf("%s=%s: %w", path, s.value, err)
		}
	}
	return changed, nil
}
