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
