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
	ns     *namespace
	wall   *guardTable
	own    sync.Map // the indexes of the VNICs that we made
	events chan change
	done   chan struct{}
}

func newMachine() (machine, error) {
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	ns, err := currentNamespace()
	if err != nil {
		return nil, err
	}
	m := &linuxMachine{ns: ns, events: make(chan change, 64), done: make(chan struct{})}
	err = removeStaleRules(ns)
	if err == nil {
		err = m.watch()
	}
	if err != nil {
		ns.close()
		return nil, err
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
	return err
}

func (m *linuxMachine) guard(g guardSpec) (err error) {
	if m.wall == nil {
		if m.wall, err = newGuardTable(m.ns); err != nil {
			return err
		}
	}
	return m.wall.replace(g)
}

func (m *linuxMachine) changes() <-chan change { return m.events }

// watch turns the kernel's messages into changes.
func (m *linuxMachine) watch() error {
	links := make(chan netlink.LinkUpdate, 64)
	if err := netlink.LinkSubscribeWithOptions(links, m.done, netlink.LinkSubscribeOptions{Namespace: &m.ns.handle}); err != nil {
		return fmt.Errorf("watching the devices: %w", err)
	}
	addrs := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribeWithOptions(addrs, m.done, netlink.AddrSubscribeOptions{Namespace: &m.ns.handle}); err != nil {
		return fmt.Errorf("watching the addresses: %w", err)
	}
	routes := make(chan netlink.RouteUpdate, 64)
	if err := netlink.RouteSubscribeWithOptions(routes, m.done, netlink.RouteSubscribeOptions{Namespace: &m.ns.handle}); err != nil {
		return fmt.Errorf("watching the routes: %w", err)
	}
	neighbours := make(chan netlink.NeighUpdate, 64)
	if err := netlink.NeighSubscribeWithOptions(neighbours, m.done, netlink.NeighSubscribeOptions{Namespace: &m.ns.handle}); err != nil {
		return fmt.Errorf("watching the neighbours: %w", err)
	}
	go func() {
		for {
			var c change
			select {
			case u, ok := <-links:
				if !ok {
					return
				}
				c = change{index: u.Attrs().Index, name: u.Attrs().Name, state: stateOf(u.Link)}
				c.state.up = c.state.up && u.Header.Type != unix.RTM_DELLINK
			case _, ok := <-addrs:
				if !ok {
					return
				}
			case u, ok := <-routes:
				if !ok {
					return
				}
				if _, own := m.own.Load(u.LinkIndex); !own {
					continue
				}
			case u, ok := <-neighbours:
				if !ok {
					return
				}
				if _, own := m.own.Load(u.LinkIndex); !own {
					continue
				}
			}
			select {
			case m.events <- c:
			case <-m.done:
				return
			}
		}
	}()
	return nil
}

func stateOf(link netlink.Link) linkState {
	a := link.Attrs()
	state := linkState{up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0, mtu: a.MTU}
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
