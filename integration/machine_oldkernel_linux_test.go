package integration_test

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// kernelEnv names, in Caddy's environment, a kernel that Caddy is to meet instead
// of this machine's. A system call filter stands in for it.
const kernelEnv = "CADDY_VNIC_TEST_KERNEL"

// anyCommand is for a kernel that refuses bpf(2) whatever it is to do.
const anyCommand = -1

// kernels are those, by what bpf(2) refuses there.
var kernels = map[string]struct {
	command int
	errno   unix.Errno
}{
	withoutTCX:    {unix.BPF_LINK_CREATE, unix.EINVAL}, // before 6.6
	"without BPF": {anyCommand, unix.EPERM},            // as in many containers
	"before BPF":  {anyCommand, unix.ENOSYS},
}

// withoutTCX is the kernel on which programs are filters of clsact.
const withoutTCX = "without tcx"

// onKernel lets each Caddy that the scene starts from now on meet another kernel. An
// empty name is this machine's kernel.
func (s *scene) onKernel(name string) {
	s.t.Helper()
	if name == "" {
		return
	}
	if _, ok := kernels[name]; !ok {
		s.t.Fatalf("no kernel %q", name)
	}
	s.env = append(s.env, kernelEnv+"="+name)
}

// meetKernel makes this process meet the kernel that its environment names, for
// good.
func meetKernel() error {
	kernel, ok := kernels[os.Getenv(kernelEnv)]
	if !ok {
		return nil
	}
	// struct seccomp_data: the number of the call, then, 16 bytes on, its arguments,
	// of which the first is the command.
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_BPF, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(kernel.command), SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(kernel.errno)},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	}
	if kernel.command == anyCommand {
		program[3] = bpf.LoadConstant{Dst: bpf.RegA}
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := unix.SockFprog{Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// onEachAttachment runs a test on each data path, and on the kernel's where the
// programs are filters: the scene's onKernel takes the test's kernel.
func onEachAttachment(t *testing.T, test func(t *testing.T, datapath, kernel string)) {
	onEachDataPath(t, func(t *testing.T, datapath string) { test(t, datapath, "") })
	t.Run("clsact", func(t *testing.T) {
		t.Parallel()
		test(t, "kernel", withoutTCX)
	})
}
