package host

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// VNIC is a VNIC that we made.
type VNIC interface {
	iface.Device
	// Configure sets all that differs from what is wanted, and tells what of it
	// somebody else had changed. A new device must be configured before use.
	Configure(want VNICSettings) (changed []string, err error)
	Index() int
	// Do runs a function where the segment's sockets are opened: on a thread in
	// its namespace.
	Do(f func() error) error
}

// VNICSettings are what can change of a VNIC while it lives.
type VNICSettings struct {
	MTU        int
	Neighbours map[netip.Addr]config.MAC // of the aliases, for good (A3)
	Via        netip.Addr                // the alias by which all else is reached, if any (A6)
	HostRoute  bool                      // unbound sockets of the VNIC's namespace go by it too
}

// VNICSpec is what makes one VNIC different from another: if any of it changes,
// it is another VNIC.
type VNICSpec struct {
	Segment string
	Iface   string
	Address netip.Prefix
	MAC     config.MAC
	Netns   string // the segment's own namespace; empty: the host's
}

// Prefix is an address of the host, on one of its own devices.
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

type GuardedVNIC struct {
	Index   int
	Address netip.Prefix
	Away    bool // the VNIC is in a namespace of its own: nothing that comes out of it is for the host
}
