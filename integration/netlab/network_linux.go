package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// lockPrefix begins the path of a network's lock file. The file lists the network's
// namespaces, and the owner's lock on it ends with the owner. So the next owner of
// any network can remove the namespaces that a killed owner has left.
const lockPrefix = "/run/caddy-vnic-lab-"

// Network is a set of hosts, each a network namespace that `ip netns` knows
// under the name <network>-<host>.
type Network struct {
	name  string
	lock  *os.File
	hosts []*Host
}

// NewNetwork makes an empty network. If a network of this name is up, that is an
// error. NewNetwork first removes what killed processes have left. It needs
// CAP_SYS_ADMIN and CAP_NET_ADMIN.
func NewNetwork(name string) (*Network, error) {
	removeLeftovers()
	lock, err := lockNetwork(lockPrefix + name)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lab: the network %s is already up: end the other lab first", name)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return &Network{name: name, lock: lock}, nil
}

// NewHost adds a host without links. Its loopback device is up. IPv6 is off until a link has
// IPv6 addresses ([End]) or [Host.EnableIPv6] is called, so that captures show only what the
// hosts are told to send.
func (n *Network) NewHost(name string) (*Host, error) {
	h := &Host{name: name, namespace: n.name + "-" + name, ns: netns.None()}
	if _, err := fmt.Fprintln(n.lock, h.namespace); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := h.open(); err != nil {
		return nil, fmt.Errorf("lab: host %s: %w", name, errors.Join(err, h.close()))
	}
	n.hosts = append(n.hosts, h)
	return h, nil
}

// Close ends the programs that still run on the network's hosts and removes the
// hosts.
func (n *Network) Close() error {
	var errs []error
	for _, h := range n.hosts {
		errs = append(errs, h.close())
	}
	n.hosts = nil
	errs = append(errs, os.Remove(n.lock.Name()), n.lock.Close())
	return errors.Join(errs...)
}

func (h *Host) open() (err error) {
	err = keepNamespace(func() (err error) {
		h.ns, err = netns.NewNamed(h.namespace)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the network namespace %s: %w", h.namespace, err)
	}
	if h.netlink, err = netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	for _, conf := range []string{"all", "default"} {
		err := h.Sysctl("net/ipv6/conf/"+conf+"/disable_ipv6", "1")
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6 is fine
			return err
		}
	}
	lo, err := h.netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.netlink.LinkSetUp(lo)
}

// keepNamespace runs fn, which may enter network namespaces, and then returns the
// thread to its own.
func keepNamespace(fn func() error) (err error) {
	runtime.LockOSThread()
	origin, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer origin.Close()
	defer func() {
		// A thread that cannot go back stays locked and ends with its goroutine.
		if back := netns.Set(origin); back != nil {
			err = errors.Join(err, back)
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// deleteNamespace removes a named namespace. It need not be mounted, because its owner
// may have been killed before that.
func deleteNamespace(name string) error {
	path := filepath.Join("/run/netns", name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// lockNetwork makes and locks a network's file. If somebody removes the file between
// the two steps, the lock holds for nobody, so lockNetwork starts again.
func lockNetwork(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return f, nil
		}
		f.Close()
	}
}

// removeLeftovers removes the networks whose owners have died, because nobody locks
// their files. What it cannot remove it leaves to the next start.
func removeLeftovers() {
	files, _ := filepath.Glob(lockPrefix + "*")
	for _, path := range files {
		lock, err := lockNetwork(path)
		if err != nil {
			continue
		}
		namespaces, err := os.ReadFile(path)
		for _, name := range strings.Fields(string(namespaces)) {
			err = errors.Join(err, deleteNamespace(name))
		}
		if err == nil {
			os.Remove(path)
		}
		lock.Close()
	}
}
