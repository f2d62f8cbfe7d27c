package host

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// capability is one of capabilities(7), and what it is needed for.
type capability struct {
	number    int
	name, why string
}

// DeviceCapabilities are always needed. DatapathCapabilities are needed for the kernel data
// path: without CAP_PERFMON, the kernel refuses BPF programs that could leak by speculation,
// which includes loops and pointers that two branches compute.
var (
	DeviceCapabilities = []capability{
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "to make VNICs, routes and the packet filter"},
		{unix.CAP_NET_RAW, "CAP_NET_RAW", "to read and write frames on the NIC"},
	}
	DatapathCapabilities = []capability{
		{unix.CAP_BPF, "CAP_BPF", "to make BPF maps and load BPF programs"},
		{unix.CAP_PERFMON, "CAP_PERFMON", "to load BPF programs with loops"},
	}
)

// Require returns an error that names the first capability that the process lacks, and says
// how to get it, or nil.
func Require(wanted []capability) error {
	effective, err := Capabilities()
	if err != nil {
		return err
	}
	for _, c := range wanted {
		if effective&(1<<c.number) == 0 {
			return fmt.Errorf("%s is missing, %s: run as root, or give the binary its capabilities (setcap cap_net_admin,cap_net_raw,cap_net_bind_service,cap_bpf,cap_perfmon+ep <caddy>), or the systemd unit (AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_BPF CAP_PERFMON)", c.name, c.why)
		}
	}
	return nil
}

// Capabilities returns the effective capabilities of this process, a bit for each
// (capabilities(7)).
func Capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("reading the capabilities of the process: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// ExplainBPF adds the cause and the fix to an error of bpf(2). It assumes that the process
// has the capabilities.
func ExplainBPF(err error) error {
	switch {
	case errors.Is(err, unix.EPERM) && !inFirstUserNamespace():
		return fmt.Errorf("%w: the kernel loads no BPF programs for processes in a user namespace (an unprivileged container, say)", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: something forbids bpf(2), as a container's seccomp profile does", err)
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.E2BIG):
		return fmt.Errorf("%w: lower max_flows", err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL) && olderKernel():
		return fmt.Errorf("%w: it takes Linux 5.15 or later", err)
	}
	return err
}

// olderKernel tells whether the kernel is from before Linux 5.15, the oldest whose
// verifier is known to take the programs.
func olderKernel() bool {
	version, err := features.LinuxVersionCode()
	return err == nil && version < 5<<16|15<<8 // KERNEL_VERSION, include/linux/version.h
}

// inFirstUserNamespace tells whether this process's capabilities apply to the whole machine:
// its user namespace has the number that the kernel gives to the first one
// (PROC_USER_INIT_INO, include/linux/proc_ns.h).
func inFirstUserNamespace() bool {
	namespace, err := os.Readlink("/proc/self/ns/user")
	return err != nil || namespace == fmt.Sprintf("user:[%d]", 0xEFFFFFFD)
}
