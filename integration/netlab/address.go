package netlab

import (
	"net"
	"net/netip"
)

// URLHost returns an address as the host of a URL, and as it stands before a port.
func URLHost(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// IPNet returns an address and its network as netlink takes them.
func IPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
