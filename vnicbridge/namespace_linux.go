package vnicbridge

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace as seen from any thread. Devices, addresses and routes
// are reached by netlink. do is for system calls that depend on the calling thread.
type namespace struct {
	handle  netns.NsHandle
	netlink *netlink.Handle
	own     bool // the process's own: to enter it would take CAP_SYS_ADMIN in vain
}

// currentNamespace is the namespace of the calling thread.
func currentNamespace() (*namespace, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("opening the network namespace: %w", err)
	}
	ns := &namespace{handle: handle}
	if process, err := netns.GetFromPid(os.Getpid()); err == nil {
		ns.own = handle.Equal(process)
		_ = process.Close()
	}
	if ns.own {
		ns.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	} else {
		ns.netlink, err = netlink.NewHandleAt(handle, unix.NETLINK_ROUTE)
	}
	if err != nil {
		_ = handle.Close()
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	return ns, nil
}

// fd is the namespace for libraries that open sockets. 0 is the process's own.
func (ns *namespace) fd() int {
	if ns.own {
		return 0
	}
	return int(ns.handle)
}

// ref is the namespace for libraries that take a handle. nil is the process's own.
func (ns *namespace) ref() *netns.NsHandle {
	if ns.own {
		return nil
	}
	return &ns.handle
}

func (ns *namespace) close() {
	ns.netlink.Close()
	_ = ns.handle.Close()
}

// do runs a function on a thread that is in the namespace: for /dev/net/tun and
// /proc/sys/net, whose namespace is that of the thread that opens them.
func (ns *namespace) do(f func() error) error {
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
