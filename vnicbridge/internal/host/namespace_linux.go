package host

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that any thread can use: its Netlink handle for devices,
// addresses and routes, and Do for system calls that depend on the calling thread.
type Namespace struct {
	handle  netns.NsHandle
	Netlink *netlink.Handle
	own     bool // the process's own, which needs no CAP_SYS_ADMIN because nobody enters it
}

// CurrentNamespace opens the namespace of the calling thread.
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

// FD returns the namespace's descriptor for libraries that open sockets. 0 means the
// process's own namespace.
func (ns *Namespace) FD() int {
	if ns.own {
		return 0
	}
	return int(ns.handle)
}

// ref returns the namespace's handle for libraries that take one. nil means the process's own
// namespace.
func (ns *Namespace) ref() *netns.NsHandle {
	if ns.own {
		return nil
	}
	return &ns.handle
}

// Close closes the handles. The namespace itself stays.
func (ns *Namespace) Close() {
	ns.Netlink.Close()
	_ = ns.handle.Close()
}

// Do runs a function on a thread in the namespace. /dev/net/tun and /proc/sys/net belong to
// the namespace of the thread that opens them.
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
