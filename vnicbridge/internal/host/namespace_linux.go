package host

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace as seen from any thread. Devices, addresses and routes
// are reached by netlink. do is for system calls that depend on the calling thread.
type Namespace struct {
	handle  netns.NsHandle
	Netlink *netlink.Handle
	own     bool // the process's own: to enter it would take CAP_SYS_ADMIN in vain
}

// CurrentNamespace is the namespace of the calling thread.
func CurrentNamespace() (*Namespace, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("opening the network namespace: %w", err)
	}
	ns := &Namespace{handle: handle}
	if process, err := netns.GetFromPid(os.Getpid()); err == nil {
		ns.own = handle.Equal(process)
		_ = process.Close()
	}
	if ns.own {
		ns.Netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	} else {
		ns.Netlink, err = netlink.NewHandleAt(handle, unix.NETLINK_ROUTE)
	}
	if err != nil {
		_ = handle.Close()
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	return ns, nil
}

// FD is the namespace for libraries that open sockets. 0 is the process's own.
func (ns *Namespace) FD() int {
	if ns.own {
		return 0
	}
	return int(ns.handle)
}

// ref is the namespace for libraries that take a handle. nil is the process's own.
func (ns *Namespace) ref() *netns.NsHandle {
	if ns.own {
		return nil
	}
	return &ns.handle
}

func (ns *Namespace) Close() {
	ns.Netlink.Close()
	_ = ns.handle.Close()
}

// Do runs a function on a thread that is in the namespace: for /dev/net/tun and
// /proc/sys/net, whose namespace is that of the thread that opens them.
func (ns *Namespace) Do(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		here, err := netns.Get()
		if err != nil {
			result <- fmt.Errorf("opening the network namespace: %w", err)
			return
		}
		defer func() { _ = here.Close() }()
		if here.Equal(ns.handle) {
			runtime.UnlockOSThread()
			result <- f()
			return
		}
		if err := netns.Set(ns.handle); err != nil {
			result <- fmt.Errorf("entering the network namespace: %w", err)
			return
		}
		err = f()
		// A thread that cannot go back stays locked, and ends with its goroutine.
		if netns.Set(here) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}
