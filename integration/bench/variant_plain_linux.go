package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// plainBridgeCommand is the argument that makes this program the plain bridge.
const plainBridgeCommand = "plain-bridge"

// plainFrame holds any frame of a link without offloads.
const plainFrame = 2048

// startPlain starts the paper's own design in its simplest form, as a yardstick: a program
// that reads a frame, rewrites it and writes it, for one client and without a flow table. It
// cannot handle offloads, so they are off. The program inherits its device and its socket.
func startPlain(_ context.Context, s *site) error {
	if err := errors.Join(s.client.SetOffloads(clientDevice, false), s.server.SetOffloads(paper.NICDevice, false)); err != nil {
		return err
	}
	tap, vnicMAC, err := s.makeTAP("vnic-A")
	if err != nil {
		return err
	}
	defer tap.Close()
	socket, err := s.openNIC()
	if err != nil {
		return err
	}
	defer socket.Close()
	// The plain bridge does not answer ARP.
	if err := addNeighbour(s.client, clientDevice, s.public.Addr().AsSlice(), paper.NICMAC); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bridge := exec.Command(self, plainBridgeCommand, vnicMAC.String())
	bridge.ExtraFiles = []*os.File{socket, tap}
	_, err = s.startPlane(bridge)
	return err
}

// makeTAP makes the VNIC, and a neighbour entry for the client's alias.
func (s *site) makeTAP(name string) (tap *os.File, mac net.HardwareAddr, err error) {
	err = s.server.Do(func() error {
		device, err := water.New(water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{Name: name}})
		if err == nil {
			tap = device.ReadWriteCloser.(*os.File)
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("TAP device %s: %w", name, err)
	}
	handle := s.server.Netlink()
	link, err := handle.LinkByName(name)
	if err == nil {
		err = handle.AddrAdd(link, &netlink.Addr{IPNet: netlab.IPNet(s.inner)})
	}
	if err == nil {
		err = handle.LinkSetUp(link)
	}
	if err == nil {
		err = addNeighbour(s.server, name, s.alias.AsSlice(), paper.RouterMAC)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("TAP device %s: %w", name, err), tap.Close())
	}
	return tap, link.Attrs().HardwareAddr, nil
}

// openNIC opens an AF_PACKET socket on the NIC.
func (s *site) openNIC() (*os.File, error) {
	link, err := s.server.Netlink().LinkByName(paper.NICDevice)
	if err != nil {
		return nil, err
	}
	const ipv4 = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8 // in network byte order
	fd := -1
	err = s.server.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ipv4, Ifindex: link.Attrs().Index}),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "nic"), nil
}

func addNeighbour(h *netlab.Host, device string, ip net.IP, mac net.HardwareAddr) error {
	link, err := h.Netlink().LinkByName(device)
	if err != nil {
		return err
	}
	return h.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: mac,
	})
}

// runPlainBridge is the plain bridge's process. Descriptor 3 is the NIC, and 4 the VNIC,
// whose MAC is the argument.
func runPlainBridge(args []string) error {
	if len(args) != 1 {
		return errors.New(plainBridgeCommand + " is a command that only the benchmark itself runs")
	}
	mac, err := net.ParseMAC(args[0])
	if err != nil {
		return err
	}
	const nic, tap = 3, 4
	if err := errors.Join(unix.SetNonblock(nic, false), unix.SetNonblock(tap, false)); err != nil {
		return err
	}
	in := newHop(mac, paper.RouterMAC, ipv4.alias, ipv4.inner.Addr())
	out := newHop(paper.RouterMAC, paper.NICMAC, ipv4.public.Addr(), ipv4.gateway.Addr())
	ended := make(chan error)
	go func() { ended <- copyFrames(tap, nic, in) }()
	go func() { ended <- copyFrames(nic, tap, out) }()
	return <-ended
}

// copyFrames copies frames one by one. A frame that cannot be sent is lost.
func copyFrames(to, from int, h hop) error {
	frame := make([]byte, plainFrame)
	for {
		n, err := unix.Read(from, frame)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case h.rewrite(frame[:n]):
			_, _ = unix.Write(to, frame[:n])
		}
	}
}
