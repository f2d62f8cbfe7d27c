package vnicbridge

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// machine is what the data plane needs of the computer that it runs on: it makes devices,
// guards them, and hints at changes. Only Linux has an implementation. Tests have a machine
// in memory.
type machine interface {
	// MakeFIFO makes a FIFO unless it exists. Follow reads its lines until stop is closed: see
	// [elector.Follow]. Track tells an elector whether this machine is fit.
	MakeFIFO(path string) error
	Follow(path string, heard func(line string), gone func(), stop <-chan struct{})
	Track(path string, fit bool) error
	// Announce keeps a route by which routers learn of an address, or removes it.
	Announce(table int, address netip.Addr, on bool) error

	// Check returns what keeps a configuration from being put in force here, or nil. It
	// changes nothing. own names the VNICs that this plane made.
	Check(cfg *config.Config, own map[string]bool) error
	// OpenNIC takes over the frames of pseudo addresses, at most one of each family, on a NIC.
	OpenNIC(name string, pseudo [config.Families]netip.Prefix) (iface.NICDevice, error)
	// MakeVNIC makes a VNIC and sets it up.
	MakeVNIC(spec host.VNICSpec) (host.VNIC, error)
	// KeepNetns keeps a network namespace, until release is called, while its VNIC is
	// replaced. An empty name means the host's.
	KeepNetns(name string) (release func() error)
	// newKernelPath makes a kernel path. The error says what the path lacks here.
	newKernelPath(o kernel.Options) (kernelPath, error)
	// capture opens a source of copies of the frames that pass a device.
	capture(d iface.Device, o capture.SourceOptions) (capture.FrameSource, error)
	// Guard keeps the host's kernel from acting on packets that belong to bridges and
	// segments. It replaces the guard that is in force.
	Guard(g host.GuardSpec) error
	// HostPrefixes lists the host's addresses of both families with their networks. Those of
	// our VNICs are among them.
	HostPrefixes() ([]host.Prefix, error)
	// Changes hints that devices, addresses, routes, rules, neighbours or programs on
	// devices may have changed.
	Changes() <-chan struct{}
	// obstacles lists routing rules and programs of others that run before ours although
	// ours should be first: what each is, what may come of it, and the fix.
	obstacles() []string
	Close() error

	// Inherit takes over the open files of a predecessor's devices, and Confirm ends that: see
	// [host.Machine.Inherit].
	Inherit(succession.Files)
	Confirm() error
	// RemainingFiles returns the open files that keep the guard when the process ends.
	RemainingFiles() (succession.Files, error)
}
