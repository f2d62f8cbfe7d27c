package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// ownedDevice is an open device of the host's. While it is open, no other process bridges it.
type ownedDevice struct {
	*PacketSocket
	machine *Machine
	closed  bool
}

// OwnedNIC is an open NIC.
type OwnedNIC struct {
	ownedDevice
	letIn *letIn
}

// OpenNIC takes over the frames for pseudo addresses on a NIC, and removes what a killed
// process left on the NIC. The error says so if another process bridges the NIC.
func (m *Machine) OpenNIC(name string, pseudo [config.Families]netip.Prefix) (iface.NICDevice, error) {
	filter := NewLetIn(PseudoAddresses{pseudo[config.IPv4].Addr(), pseudo[config.IPv6].Addr()})
	s, err := openPacketSocket(m.NS, name, filter, m.inherited.Take(packetFile(name)))
	if err != nil {
		return nil, errors.Join(err, filter.Close())
	}
	if err := m.ownNIC(s.Ifindex); err != nil {
		return nil, errors.Join(fmt.Errorf("nic %s: %w", name, err), s.Close(), filter.Close())
	}
	return &OwnedNIC{ownedDevice{PacketSocket: s, machine: m}, filter}, nil
}

// Index returns the device's number in the kernel.
func (d *ownedDevice) Index() int { return d.Ifindex }

// Link returns the device's state now.
func (d *ownedDevice) Link() (iface.LinkState, error) {
	state, err := d.PacketSocket.link()
	if err == nil && state.Up { // a device that is down would lose the announcement
		_, state.NotifyPeers = d.machine.peers.LoadAndDelete(d.Ifindex)
	}
	return state, err
}

// LeftOut returns what the NIC's filter has dropped since the last call, by reason.
func (n *OwnedNIC) LeftOut() map[packet.DropReason]iface.Tally { return n.letIn.LeftOut() }

// Know tells the NIC's filter whether frames go to a host on the link. A zero MAC means that
// they no longer do.
func (n *OwnedNIC) Know(host packet.Addr, mac config.MAC, gateway bool) {
	n.letIn.Know(host, link.KindOf(mac, gateway))
}

// Join makes the NIC take the frames to a multicast MAC: see [iface.NICDevice].
func (n *OwnedNIC) Join(group config.MAC) error {
	return n.membership(unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_MULTICAST, group)
}

// Leave ends what Join began.
func (n *OwnedNIC) Leave(group config.MAC) error {
	return n.membership(unix.PACKET_DROP_MEMBERSHIP, unix.PACKET_MR_MULTICAST, group)
}

// Close gives the device up. A second call does nothing, because the device may have been opened
// again.
func (d *ownedDevice) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	return errors.Join(d.PacketSocket.Close(), d.machine.disownNIC(d.Ifindex))
}

// Close gives the NIC up. A second call does nothing.
func (n *OwnedNIC) Close() error { return errors.Join(n.ownedDevice.Close(), n.letIn.Close()) }

// nicOwnership keeps other processes off a NIC: a Unix socket whose abstract name (unix(7))
// contains the NIC's index, and is taken for as long as this process lives. Such names
// belong to the network namespace, as indexes of devices do.
type nicOwnership struct {
	socket net.Listener
	users  int // 2 while a reload has opened the NIC again and not closed it yet
}

// ownNIC takes the ownership of a NIC, and removes what a killed process left on it.
func (m *Machine) ownNIC(ifindex int) error {
	if own := m.nics[ifindex]; own != nil {
		own.users++
		return nil
	}
	name := nicSocket(ifindex)
	if file := m.inherited.Take(name); file != nil {
		socket, err := inheritListener(file)
		if err == nil {
			m.nics[ifindex] = &nicOwnership{socket, 1}
		}
		return err
	}
	var socket net.Listener
	err := m.NS.Do(func() (err error) {
		socket, err = net.Listen("unix", name)
		return err
	})
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return m.ownedError(name)
	case err != nil:
		return fmt.Errorf("making it this process's own: %w", err)
	}
	if err := (Clsact{m.NS, ifindex}).removeStale(); err != nil {
		return errors.Join(err, socket.Close())
	}
	m.nics[ifindex] = &nicOwnership{socket, 1}
	return nil
}

// inheritListener takes over a predecessor's listening socket. To listen again tells others this
// process's number (unix_listen in net/unix/af_unix.c).
func inheritListener(file *os.File) (net.Listener, error) {
	defer func() { _ = file.Close() }() // the listener has a descriptor of its own
	fd, err := succession.Descriptor(file)
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		return nil, fmt.Errorf("taking over the socket %s: %w", file.Name(), err)
	}
	return net.FileListener(file)
}

// Files returns the open files of the device for a successor.
func (d *ownedDevice) Files() (succession.Files, error) {
	files, err := d.PacketSocket.Files()
	if err != nil {
		return nil, err
	}
	name := nicSocket(d.Ifindex)
	files[name], err = succession.Duplicate(d.machine.nics[d.Ifindex].socket.(*net.UnixListener), name)
	return files, err
}

const nicSocketPrefix = "@caddy-vnic/nic/"

func nicSocket(ifindex int) string { return fmt.Sprint(nicSocketPrefix, ifindex) }

// IsOwnership tells whether a file keeps other processes off a NIC.
func IsOwnership(name string) bool { return strings.HasPrefix(name, nicSocketPrefix) }

func (m *Machine) ownedError(socket string) error {
	return fmt.Errorf("%s bridges it already: stop that one first, or name another device", m.listenerOf(socket))
}

// checkOwner returns an error if another process bridges a device, which an option names. It does
// not take the device.
func (m *Machine) checkOwner(option, name string, devices map[string]netlink.Link) error {
	link := devices[name]
	if link == nil || m.nics[link.Attrs().Index] != nil {
		return nil
	}
	socket := nicSocket(link.Attrs().Index)
	err := m.NS.Do(func() error {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return nil // nobody listens, so nobody bridges it
	}
	return fmt.Errorf("%s %s: %w", option, name, m.ownedError(socket))
}

func (m *Machine) disownNIC(ifindex int) error {
	own := m.nics[ifindex]
	if own.users--; own.users > 0 {
		return nil
	}
	delete(m.nics, ifindex)
	return own.socket.Close()
}

// listenerOf names the process that listens on a Unix socket.
func (m *Machine) listenerOf(name string) string {
	var peer *unix.Ucred
	err := m.NS.Do(func() error {
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
	if err != nil || peer.Pid == 0 { // it has just ended, or this container cannot see it
		return "another process"
	}
	return fmt.Sprintf("process %d", peer.Pid)
}
