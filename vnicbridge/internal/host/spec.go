package host

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// VNIC is a VNIC that this process made, or a device that takes its place.
type VNIC interface {
	iface.Device
	// Configure sets everything that differs from what is wanted, and names what somebody
	// else had changed. A new device must be configured before use. After a
	// [SmallMTUError] everything but IPv6 is as wanted.
	Configure(want VNICSettings) (changed []string, err error)
	// Index is the device's number in the kernel. Of a veth pair it is the outer end's.
	Index() int
	// Do runs a function on a thread in the segment's namespace, where the segment's
	// sockets are opened.
	Do(f func() error) error
}

// VNICSettings are what can change of a VNIC while it lives.
type VNICSettings struct {
	MTU        int
	NIC        string                      // whose MTU it is
	Neighbours map[netip.Addr]config.MAC   // of the aliases, for good (A3)
	Router     netip.Addr                  // the alias by way of which all other hosts of the IPv6 network are reached (A6)
	Via        [config.Families]netip.Addr // the next hop to everything beyond, if any (A6)
	HostRoute  bool                        // unbound sockets of the VNIC's namespace use Via, too
}

// VNICSpec identifies a VNIC: if any of it changes, the VNIC is made again.
type VNICSpec struct {
	Segment   string
	Iface     string
	Addresses [config.Families]netip.Prefix // the zero value if it has none of a family
	MAC       config.MAC
	Netns     string // the segment's own namespace; empty: the host's
	Remote    bool   // the segment's server is behind the device, which the host has already
}

// Identity returns what makes it this VNIC, as text that other versions of the program write in the
// same way.
func (s VNICSpec) Identity() string {
	identity := fmt.Sprint(s.Segment, " ", s.Iface, " ", s.Addresses, " ", s.MAC, " ", s.Netns)
	if s.Remote {
		identity += " remote"
	}
	return identity
}

// has tells whether the VNIC has an address of a family.
func (s VNICSpec) has(f config.Family) bool { return s.Addresses[f].IsValid() }

// SmallMTUError says that the MTU of a NIC is too small for IPv6 (F8). It has the fix.
type SmallMTUError struct {
	NIC string
	MTU int
}

func (e *SmallMTUError) Error() string {
	return fmt.Sprintf("nic %s has an MTU of %d, and IPv6 needs %d: raise it (ip link set %s mtu %d), or take the IPv6 addresses away", e.NIC, e.MTU, minMTU, e.NIC, minMTU)
}

// fitsIPv6 tells whether IPv6 works over a link with an MTU (RFC 8200 §5). Linux takes IPv6
// off a device whose MTU is smaller.
func fitsIPv6(mtu int) bool { return mtu >= minMTU }

const minMTU = 1280

// Prefix is an address of the host with its network, on one of the host's devices.
type Prefix struct {
	Device string
	Prefix netip.Prefix
}

// GuardSpec is what the host's kernel must not act on.
type GuardSpec struct {
	NICs   []int // their indexes
	Pseudo []netip.Addr
	VNICs  []GuardedVNIC
}

// has tells whether a VNIC or a bridge has an address of a family.
func (g GuardSpec) has(f config.Family) bool {
	return len(g.pseudoOf(f)) > 0 || slices.ContainsFunc(g.VNICs, func(v GuardedVNIC) bool { return v.Addresses[f].IsValid() || v.Remote })
}

// pseudoOf lists the pseudo addresses of a family.
func (g GuardSpec) pseudoOf(f config.Family) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(g.Pseudo), func(p netip.Addr) bool { return config.FamilyOf(p) != f })
}

// GuardedVNIC is a VNIC that the host's kernel must not act on.
type GuardedVNIC struct {
	Index     int
	Addresses [config.Families]netip.Prefix // the zero value if it has none of a family
	Away      bool                          // the VNIC is in a namespace of its own, or the server behind a device: nothing that comes out of it is for the host
	Remote    bool                          // the server is behind a device, by which it could also speak a family of which it has no address here
}
