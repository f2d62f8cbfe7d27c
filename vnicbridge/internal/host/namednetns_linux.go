package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NetnsDirectory is where `ip netns` keeps the names of namespaces.
const NetnsDirectory = "/run/netns/"

// madeAlias is the alias of lo in a namespace that this program made and may remove.
const madeAlias = "made by caddy-vnic"

// netnsUsers counts the users of named namespaces, by name. The last one removes a name that
// this program made.
var netnsUsers = struct {
	sync.Mutex
	count map[string]int
}{count: make(map[string]int)}

// KeepNetns keeps a network namespace while its VNIC is replaced, so that the sockets and
// programs in the namespace live on. Without such a namespace it does nothing.
func (m *Machine) KeepNetns(name string) (release func() error) {
	nothing := func() error { return nil }
	if name == "" {
		return nothing
	}
	if _, err := os.Stat(NetnsDirectory + name); err != nil {
		return nothing
	}
	ns, err := namedNamespace(name)
	if err != nil {
		return nothing // making the VNIC reports this error
	}
	return func() error { return ns.releaseNamed(name) }
}

// namedNamespace opens a network namespace by its name, as `ip netns` does, and
// makes it if it is not there.
func namedNamespace(name string) (*Namespace, error) {
	handle, err := netns.GetFromName(name)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		handle, err = makeNamespace(name)
	}
	if made && err != nil {
		return nil, AbsentError(name, err)
	}
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("opening netns %s: %w (it takes CAP_SYS_ADMIN: run as root, or add it to the binary's or the unit's capabilities)", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening netns %s: %w", name, err)
	}
	nl, err := netlink.NewHandleAt(handle, unix.NETLINK_ROUTE)
	if errors.Is(err, unix.EINVAL) {
		_ = handle.Close()
		return nil, fmt.Errorf("netns %s: its file is there, but is no network namespace any more: remove it (ip netns del %s)", name, name)
	}
	if err != nil {
		_ = handle.Close()
		return nil, fmt.Errorf("opening netlink in netns %s: %w", name, err)
	}
	ns := &Namespace{handle: handle, Netlink: nl}
	if err := ns.prepare(made); err != nil {
		ns.Close()
		return nil, fmt.Errorf("preparing netns %s: %w", name, err)
	}
	netnsUsers.Lock()
	defer netnsUsers.Unlock()
	netnsUsers.count[name]++
	return ns, nil
}

// AbsentError returns the error for a namespace that does not exist and could not be made.
func AbsentError(name string, err error) error {
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w, it takes CAP_SYS_ADMIN", err)
	}
	return fmt.Errorf("the network namespace %q is absent, and cannot be made here (%w): make it first (ip netns add %s)", name, err, name)
}

// makeNamespace makes a namespace, on a thread that then returns to the one it was in.
func makeNamespace(name string) (handle netns.NsHandle, err error) {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		before, err := netns.Get()
		if err != nil {
			result <- err
			return
		}
		defer func() { _ = before.Close() }()
		handle, err = netns.NewNamed(name)
		// A thread that cannot go back stays locked, and ends with its goroutine.
		if netns.Set(before) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return handle, <-result
}

// prepare sets lo up, and marks a namespace that this program made.
func (ns *Namespace) prepare(made bool) error {
	lo, err := ns.Netlink.LinkByIndex(loopbackIndex)
	if err != nil {
		return err
	}
	if made {
		if err := ns.Netlink.LinkSetAlias(lo, madeAlias); err != nil {
			return err
		}
	}
	return ns.Netlink.LinkSetUp(lo)
}

// releaseNamed closes a namespace. The last user removes its name if this program made it.
// Processes that are still in it keep it alive, without a VNIC.
func (ns *Namespace) releaseNamed(name string) error {
	defer ns.Close()
	netnsUsers.Lock()
	defer netnsUsers.Unlock()
	if netnsUsers.count[name]--; netnsUsers.count[name] > 0 {
		return nil
	}
	delete(netnsUsers.count, name)
	lo, err := ns.Netlink.LinkByIndex(loopbackIndex)
	if err != nil || lo.Attrs().Alias != madeAlias {
		return err
	}
	if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing netns %s: %w", name, err)
	}
	return nil
}
