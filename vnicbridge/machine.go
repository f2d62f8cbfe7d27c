package vnicbridge

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
)

// machine is what the data plane needs of the computer that it runs on: it makes
// devices, guards them, and tells what changes. Linux has the one
// implementation.
type machine interface {
	// Check tells whether the configuration can be put in force here: it looks
	// and changes nothing. own are the VNICs that exist because we made them.
	Check(cfg *config.Config, own map[string]bool) error
	// OpenNIC takes over the frames of one pseudo address on a NIC.
	OpenNIC(name string, pseudo netip.Addr) (iface.NICDevice, error)
	// MakeVNIC makes a VNIC and sets it up.
	MakeVNIC(spec host.VNICSpec) (host.VNIC, error)
	// newKernelPath makes a kernel data path beside the forwarder, if there can be one
	// here.
	newKernelPath(o kernel.Options) (kernelPath, error)
	// capture copies the frames that pass a device.
	capture(d iface.Device, o capture.SourceOptions) (capture.FrameSource, error)
	// Guard keeps the host's kernel from acting on what is the bridges' and the
	// segments' business. It replaces the guard that stands.
	Guard(g host.GuardSpec) error
	// HostPrefixes are the addresses that the host has by itself, the VNICs'
	// excepted, with their networks.
	HostPrefixes() ([]host.Prefix, error)
	// Changes hints that devices, addresses, routes, rules, neighbours or programs on
	// devices may have changed.
	Changes() <-chan struct{}
	// obstacles are what of others' stands before what is ours and cannot be put behind
	// it: what it is, what may come of it, and the fix.
	obstacles() []string
	Close() error
}
