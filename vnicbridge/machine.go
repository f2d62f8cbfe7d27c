package vnicbridge

import "net/netip"

// machine is what the data plane needs of the computer that it runs on: it makes
// devices, guards them, and tells what changes. Linux has the one
// implementation.
type machine interface {
	// check tells whether the configuration can be put in force here: it looks
	// and changes nothing. own are the VNICs that exist because we made them.
	check(cfg *Config, own map[string]bool) error
	// openNIC takes over the frames of one pseudo address on a NIC.
	openNIC(name string, pseudo netip.Addr) (nicDevice, error)
	// makeVNIC makes a VNIC and sets it up.
	makeVNIC(spec vnicSpec) (vnicDevice, error)
	// newKernelPath makes a kernel data path beside the forwarder, if there can be one
	// here.
	newKernelPath(o pathOptions) (kernelPath, error)
	// capture copies the frames that pass a device.
	capture(d device, o sourceOptions) (frameSource, error)
	// guard keeps the host's kernel from acting on what is the bridges' and the
	// segments' business. It replaces the guard that stands.
	guard(g guardSpec) error
	// hostPrefixes are the addresses that the host has by itself, the VNICs'
	// excepted, with their networks.
	hostPrefixes() ([]hostPrefix, error)
	// changes hints that devices, addresses, routes, rules, neighbours or programs on
	// devices may have changed.
	changes() <-chan struct{}
	// obstacles are what of others' stands before what is ours and cannot be put behind
	// it: what it is, what may come of it, and the fix.
	obstacles() []string
	close() error
}

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
