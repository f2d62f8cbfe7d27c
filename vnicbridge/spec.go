package vnicbridge

import "net/netip"

// vnicDevice is a VNIC that we made.
type vnicDevice interface {
	device
	// configure sets all that differs from what is wanted, and tells what of it
	// somebody else had changed. A new device must be configured before use.
	configure(want vnicSettings) (changed []string, err error)
	index() int
	// do runs a function where the segment's sockets are opened: on a thread in
	// its namespace.
	do(f func() error) error
}

// vnicSettings are what can change of a VNIC while it lives.
type vnicSettings struct {
	mtu        int
	neighbours map[netip.Addr]MAC // of the aliases, for good (A3)
	via        netip.Addr         // the alias by which all else is reached, if any (A6)
	hostRoute  bool               // unbound sockets of the VNIC's namespace go by it too
}

// vnicSpec is what makes one VNIC different from another: if any of it changes,
// it is another VNIC.
type vnicSpec struct {
	segment string
	iface   string
	address netip.Prefix
	mac     MAC
	netns   string // the segment's own namespace; empty: the host's
}

// hostPrefix is an address of the host, on one of its own devices.
type hostPrefix struct {
	device string
	prefix netip.Prefix
}

// guardSpec is what the host's kernel must not act on.
type guardSpec struct {
	nics   []int // their indexes
	pseudo []netip.Addr
	vnics  []guardedVNIC
}

type guardedVNIC struct {
	index   int
	address netip.Prefix
	away    bool // the VNIC is in a namespace of its own: nothing that comes out of it is for the host
}
