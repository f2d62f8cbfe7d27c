package paper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv is set in the process that runs in the lab's user namespace.
const insideEnv = "CADDY_VNIC_LAB_INSIDE"

func insideUserNamespace() bool { return os.Getenv(insideEnv) != "" }

// privileged tells whether this process may make network namespaces.
func privileged() bool {
	var sets [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return false
	}
	for _, capability := range []uint{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW} {
		if sets[capability/32].Effective>>(capability%32)&1 == 0 {
			return false
		}
	}
	return insideUserNamespace() || os.Geteuid() == 0
}

// checkTUN looks for what VNICs are made with, before anything is built.
func checkTUN() error {
	const device = "/dev/net/tun"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("lab: %s may not be opened: as root, run `chmod 0666 %s`, or run the lab as root", device, device)
	default:
		return fmt.Errorf("lab: open %s: %w: as root, run `modprobe tun`; in a container, start it with --device %s", device, err, device)
	}
}

// runInUserNamespace runs this program again as root of a new user namespace,
// with network and mount namespaces of its own, and waits for its end.
func runInUserNamespace(ctx context.Context) error {
	if insideUserNamespace() {
		return fmt.Errorf("lab: a user namespace without privileges: %s", userNamespaceAdvice())
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   unix.SIGTERM,
	}
	runtime.LockOSThread() // the death signal is tied to the thread that starts the process
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("lab: make a user namespace: %w: %s", err, userNamespaceAdvice())
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(unix.SIGTERM) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %w", ErrReported, err)
	}
	return nil
}

// hideRun puts an empty /run over the machine's, in this mount namespace only,
// for the names of the network namespaces.
func hideRun() error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("lab: mount a private /run: %w: %s", err, userNamespaceAdvice())
	}
	return nil
}

// userNamespaceAdvice says how to allow user namespaces here: by the switches
// of Debian, of every kernel, and of Ubuntu that are set against them.
func userNamespaceAdvice() string {
	var commands []string
	for _, s := range []struct{ name, against, allow string }{
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"user.max_user_namespaces", "0", "15000"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
	} {
		value, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(s.name, ".", "/"))
		if err == nil && strings.TrimSpace(string(value)) == s.against {
			commands = append(commands, fmt.Sprintf("`sysctl -w %s=%s`", s.name, s.allow))
		}
	}
	if len(commands) == 0 {
		return "run the lab as root (a container may forbid user namespaces to its processes)"
	}
	return "as root, run " + strings.Join(commands, " and ") + ", or run the lab as root"
}
