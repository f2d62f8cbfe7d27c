package vnicbridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownedNIC is an open NIC. While it is open, no other process bridges it.
type ownedNIC struct {
	*packetSocket
	letIn   *letIn
	machine *linuxMachine
	closed  bool
}

func (m *linuxMachine) openNIC(name string, pseudo netip.Addr) (nicDevice, error) {
	filter := newLetIn(pseudo)
	s, err := openPacketSocket(m.ns, name, filter)
	if err != nil {
		return nil, errors.Join(err, filter.close())
	}
	if err := m.ownNIC(s.ifindex); err != nil {
		return nil, errors.Join(fmt.Errorf("nic %s: %w", name, err), s.close(), filter.close())
	}
	return &ownedNIC{packetSocket: s, letIn: filter, machine: m}, nil
}

func (n *ownedNIC) index() int { return n.ifindex }

func (n *ownedNIC) link() (linkState, error) {
	state, err := n.packetSocket.link()
	if err == nil && state.up { // otherwise the announcement would be lost
		_, state.notifyPeers = n.machine.peers.LoadAndDelete(n.ifindex)
	}
	return state, err
}

func (n *ownedNIC) leftOut() map[dropReason]tally { return n.letIn.leftOut() }

func (n *ownedNIC) know(host addr, mac MAC, gateway bool) {
	n.letIn.know(host, kindOf(mac, gateway))
}

// close gives the NIC up. A second time it does nothing: the NIC may have been
// opened anew.
func (n *ownedNIC) close() error {
	if n.closed {
		return nil
	}
	n.closed = true
	return errors.Join(n.packetSocket.close(), n.letIn.close(), n.machine.disownNIC(n.ifindex))
}

// nicOwnership keeps other processes off a NIC: a Unix socket whose abstract name (unix(7))
// contains the NIC's index, and is taken for as long as this process lives. Such names
// belong to the network namespace, as indexes of devices do.
type nicOwnership struct {
	socket net.Listener
	users  int // a reload opens a NIC again before it closes the NIC
}

// ownNIC makes the NIC this process's, and removes what a killed process left on it.
func (m *linuxMachine) ownNIC(ifindex int) error {
	if own := m.nics[ifindex]; own != nil {
		own.users++
		return nil
	}
	name := nicSocket(ifindex)
	var socket net.Listener
	err := m.ns.do(func() (err error) {
		socket, err = net.Listen("unix", name)
		return err
	})
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return m.ownedError(name)
	case err != nil:
		return fmt.Errorf("making it this process's own: %w", err)
	}
	if err := (clsact{m.ns, ifindex}).removeStale(); err != nil {
		return errors.Join(err, socket.Close())
	}
	m.nics[ifindex] = &nicOwnership{socket, 1}
	return nil
}

func nicSocket(ifindex int) string { return fmt.Sprintf("@caddy-vnic/nic/%d", ifindex) }

func (m *linuxMachine) ownedError(socket string) error {
	return fmt.Errorf("%s bridges it already: stop that one first, or name another NIC", m.listenerOf(socket))
}

// checkOwner tells whether another process bridges a NIC, without taking it.
func (m *linuxMachine) checkOwner(nic string, devices map[string]netlink.Link) error {
	link := devices[nic]
	if link == nil || m.nics[link.Attrs().Index] != nil {
		return nil
	}
	name := nicSocket(link.Attrs().Index)
	err := m.ns.do(func() error {
		conn, err := net.Dial("unix", name)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return nil // nobody does
	}
	return fmt.Errorf("nic %s: %w", nic, m.ownedError(name))
}

func (m *linuxMachine) disownNIC(ifindex int) error {
	own := m.nics[ifindex]
	if own.users--; own.users > 0 {
		return nil
	}
	delete(m.nics, ifindex)
	return own.socket.Close()
}

// listenerOf names the process that listens on a Unix socket.
func (m *linuxMachine) listenerOf(name string) string {
	var peer *unix.Ucred
	err := m.ns.do(func() error {
		conn, err := net.Dial("unix", name)
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		return errors.Join(raw.Control(func(fd uintptr) {
			peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		}), err)
	})
	if err != nil || peer.Pid == 0 { // it has ended just now, or cannot be seen from this container
		return "another process"
	}
	return fmt.Sprintf("process %d", peer.Pid)
}
