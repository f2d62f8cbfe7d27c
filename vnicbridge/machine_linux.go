package vnicbridge

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linuxMachine is the Linux that the process runs on.
type linuxMachine struct {
	ns    *namespace
	owner ownership
	wall  *guardTable
	own   sync.Map // the indexes of the VNICs that we made
	peers sync.Map // the indexes of the devices whose peers are to be notified
	down  sync.Map // the indexes of the devices that were last heard to be down
	nics  map[int]*nicOwnership
	hints chan struct{}
	done  chan struct{}
}

// openMachine removes what killed processes left, and begins to watch for changes.
func openMachine() (*linuxMachine, error) {
	if err := require(deviceCapabilities); err != nil {
		return nil, err
	}
	ns, err := currentNamespace()
	if err != nil {
		return nil, err
	}
	m := &linuxMachine{ns: ns, nics: make(map[int]*nicOwnership), hints: make(chan struct{}, 1), done: make(chan struct{})}
	if m.owner, err = newOwnership(ns); err != nil {
		ns.close()
		return nil, err
	}
	err = errors.Join(removeStaleRules(ns), removeStalePairs(ns))
	if err == nil {
		err = m.watch()
	}
	if err != nil {
		ns.close()
		return nil, errors.Join(err, m.owner.release())
	}
	return m, nil
}

func (m *linuxMachine) close() error {
	close(m.done)
	var err error
	if m.wall != nil {
		err = m.wall.remove()
	}
	m.ns.close()
	return errors.Join(err, m.owner.release())
}

func (m *linuxMachine) guard(g guardSpec) (err error) {
	if m.wall == nil {
		if m.wall, err = newGuardTable(m.ns, m.owner); err != nil {
			return err
		}
	}
	return m.wall.replace(g)
}

func (m *linuxMachine) changes() <-chan struct{} { return m.hints }

func stateOf(link netlink.Link) linkState {
	a := link.Attrs()
	state := linkState{name: a.Name, up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0, mtu: a.MTU}
	if len(a.HardwareAddr) == len(MAC{}) {
		state.mac = MAC(a.HardwareAddr)
	}
	return state
}

// hostPrefixes lists the IPv4 addresses of all devices. Those of our VNICs are
// among them; the caller knows which they are.
func (m *linuxMachine) hostPrefixes() ([]hostPrefix, error) {
	links, err := retryDump(m.ns.netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing the devices: %w", err)
	}
	names := make(map[int]string)
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addrs, err := retryDump(func() ([]netlink.Addr, error) {
		return m.ns.netlink.AddrList(nil, netlink.FAMILY_V4)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the host's addresses: %w", err)
	}
	var prefixes []hostPrefix
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		prefixes = append(prefixes, hostPrefix{names[a.LinkIndex], netip.PrefixFrom(ip.Unmap(), bits)})
	}
	return prefixes, nil
}

// retryDump repeats a listing that the kernel could not make in one piece,
// because something changed meanwhile (NLM_F_DUMP_INTR).
func retryDump[T any](list func() (T, error)) (T, error) {
	for range 10 {
		v, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
		time.Sleep(time.Millisecond)
	}
	return list()
}
