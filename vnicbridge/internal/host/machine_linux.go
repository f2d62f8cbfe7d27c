package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Machine is the Linux that the process runs on.
type Machine struct {
	NS    *Namespace
	owner ownership
	wall  *guardTable
	Own   sync.Map // the indexes of the VNICs that we made
	peers sync.Map // the indexes of the devices whose peers are to be notified
	down  sync.Map // the indexes of the devices that were down at the last message
	nics  map[int]*nicOwnership
	hints chan struct{}
	done  chan struct{}

	watching sync.WaitGroup // the goroutine that subscribes again

	inherited succession.Files // of a predecessor, whose devices are not made again
	shared    atomic.Bool      // the predecessor may still go on with them
	confirmed []func() error   // what Confirm does
}

// Inherit makes the machine take over the open files of a predecessor's devices as they are
// asked for. Until Confirm, to close such a device leaves it as it is.
func (m *Machine) Inherit(files succession.Files) {
	m.inherited = files
	m.shared.Store(true)
}

// Inherited returns a predecessor's open file, or nil if there is none of that name.
func (m *Machine) Inherited(name string) *os.File { return m.inherited.Take(name) }

// Shares tells whether a predecessor may still go on with the devices whose files it has given.
func (m *Machine) Shares() bool { return m.shared.Load() }

// Confirm ends what Inherit began: the predecessor will not go on, and the devices are this
// process's. What nobody has asked for is closed.
func (m *Machine) Confirm() error {
	m.shared.Store(false)
	var errs []error
	for _, do := range m.confirmed {
		errs = append(errs, do())
	}
	m.confirmed = nil
	return errors.Join(append(errs, m.inherited.Close())...)
}

// Open removes what killed processes left, and begins to watch for changes. The machine is
// that of the calling thread's network namespace.
func Open() (*Machine, error) {
	if err := Require(DeviceCapabilities); err != nil {
		return nil, err
	}
	ns, err := CurrentNamespace()
	if err != nil {
		return nil, err
	}
	m := &Machine{NS: ns, nics: make(map[int]*nicOwnership), hints: make(chan struct{}, 1), done: make(chan struct{})}
	if m.owner, err = newOwnership(ns); err != nil {
		ns.Close()
		return nil, err
	}
	err = errors.Join(removeStaleRules(ns), removeStalePairs(ns))
	if err == nil {
		err = m.watch()
	}
	if err != nil {
		ns.Close()
		return nil, errors.Join(err, m.owner.release())
	}
	return m, nil
}

// Close removes the guard and stops watching. The caller closes the devices before.
func (m *Machine) Close() error {
	close(m.done)
	var err error
	if m.wall != nil {
		err = m.wall.remove()
	}
	m.watching.Wait() // it uses the namespace
	m.NS.Close()
	return errors.Join(err, m.owner.release())
}

// Guard keeps the host's kernel from acting on packets that belong to bridges and segments.
// It replaces the guard that is in force.
func (m *Machine) Guard(g GuardSpec) (err error) {
	if m.wall == nil {
		if m.wall, err = newGuardTable(m.NS, m.owner); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/proc/net/if_inet6"); errors.Is(err, fs.ErrNotExist) { // the kernel has no IPv6
		for i := range g.VNICs {
			g.VNICs[i].Remote = false
		}
	}
	return m.wall.replace(g)
}

// Changes hints that something on the machine may have changed.
func (m *Machine) Changes() <-chan struct{} { return m.hints }

func stateOf(link netlink.Link) iface.LinkState {
	a := link.Attrs()
	state := iface.LinkState{Name: a.Name, Up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0, MTU: a.MTU}
	if len(a.HardwareAddr) == len(config.MAC{}) {
		state.MAC = config.MAC(a.HardwareAddr)
	}
	if len(a.PermHWAddr) == len(config.MAC{}) {
		state.Permanent = config.MAC(a.PermHWAddr)
	}
	return state
}

// HostPrefixes lists the addresses of all devices, with their networks. Those of our VNICs
// are among them.
func (m *Machine) HostPrefixes() ([]Prefix, error) {
	links, err := RetryDump(m.NS.Netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing the devices: %w", err)
	}
	names := make(map[int]string)
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var prefixes []Prefix
	for f := range config.Families {
		addrs, err := RetryDump(func() ([]netlink.Addr, error) { return m.NS.Netlink.AddrList(nil, netlinkFamily(f)) })
		if err != nil {
			return nil, fmt.Errorf("listing the host's addresses: %w", err)
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if !ok {
				continue
			}
			bits, _ := a.Mask.Size()
			prefixes = append(prefixes, Prefix{names[a.LinkIndex], netip.PrefixFrom(ip.Unmap(), bits)})
		}
	}
	return prefixes, nil
}

// RetryDump repeats a listing, up to ten times, if it is inconsistent because something
// changed meanwhile (NLM_F_DUMP_INTR).
func RetryDump[T any](list func() (T, error)) (T, error) {
	for range 10 {
		v, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
		time.Sleep(time.Millisecond)
	}
	return list()
}
