package vnicbridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tunPath is the device by which the kernel makes TAP devices.
const tunPath = "/dev/net/tun"

// Segmentation and checksum work that we take over from the kernel in frames out
// of a TAP (include/uapi/linux/if_tun.h): they stay whole and unfinished, and
// cross to the NIC as they are. UDP segmentation came with Linux 6.2.
const (
	tapOffloads    = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	tapOffloadsUDP = tapOffloads | unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// tap is a VNIC: a TAP device that lives as long as this process holds it.
type tap struct {
	ns     *namespace
	spec   vnicSpec
	file   *os.File
	raw    syscall.RawConn
	link   netlink.Link
	macs   map[netip.Addr]MAC // the neighbours that are set
	frames [][]byte
}

func (m *linuxMachine) makeVNIC(spec vnicSpec) (vnicDevice, error) {
	t := &tap{ns: m.ns, spec: spec, macs: make(map[netip.Addr]MAC)}
	err := m.ns.do(t.open)
	if err != nil {
		return nil, fmt.Errorf("VNIC %s: %w", spec.iface, err)
	}
	if err := t.setUp(); err != nil {
		_ = t.close()
		return nil, fmt.Errorf("VNIC %s: %w", spec.iface, err)
	}
	for range batchSize {
		t.frames = append(t.frames, make([]byte, maxFrameLen))
	}
	return t, nil
}

// open makes the device. The water package can neither insist that the device is
// new nor ask for offload headers; so the device is first made by a queue that
// does both, water's is the second queue, and the first one is then closed.
func (t *tap) open() error {
	first, err := makeTAP(t.spec.iface)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(first) }()

	// water does not ask for close-on-exec: no child may be born in between.
	syscall.ForkLock.RLock()
	dev, err := water.New(water.Config{
		DeviceType:             water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: t.spec.iface, MultiQueue: true},
	})
	if err != nil {
		syscall.ForkLock.RUnlock()
		return fmt.Errorf("opening the TAP device: %w", err)
	}
	t.file = dev.ReadWriteCloser.(*os.File)
	t.raw, err = t.file.SyscallConn()
	if err == nil {
		err = t.control(func(fd int) error { unix.CloseOnExec(fd); return nil })
	}
	syscall.ForkLock.RUnlock()
	if err == nil {
		err = t.control(setOffloads)
	}
	if err != nil {
		_ = t.file.Close()
	}
	return err
}

// makeTAP makes a TAP device with a name that no device has.
func makeTAP(name string) (fd int, err error) {
	fd, err = unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, tunError(err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EBUSY) {
			return -1, existsError(name)
		}
		return -1, fmt.Errorf("making the TAP device: %w", err)
	}
	return fd, nil
}

func existsError(name string) error {
	return fmt.Errorf("a device %s exists already and is not ours: choose another `interface`, or remove it (ip link del %s)", name, name)
}

func setOffloads(fd int) error {
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tapOffloadsUDP) == nil {
		return nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tapOffloads); err != nil {
		return fmt.Errorf("setting the offloads of the TAP device: %w", err)
	}
	return nil
}

// control runs a function on the descriptor.
func (t *tap) control(f func(fd int) error) (err error) {
	if e := t.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// setUp gives the device its MAC, sysctls, address and routes. The MAC comes
// first: changing it later flushes even permanent neighbours.
func (t *tap) setUp() error {
	nl := t.ns.netlink
	link, err := nl.LinkByName(t.spec.iface)
	if err != nil {
		return fmt.Errorf("finding the device: %w", err)
	}
	t.link = link
	if err := nl.LinkSetHardwareAddr(link, net.HardwareAddr(t.spec.mac[:])); err != nil {
		return fmt.Errorf("setting MAC %s: %w", t.spec.mac, err)
	}
	if err := t.ns.do(func() error { return setSysctls(t.spec.iface) }); err != nil {
		return err
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting the device up: %w", err)
	}
	address := &net.IPNet{IP: t.spec.address.Addr().AsSlice(), Mask: net.CIDRMask(t.spec.address.Bits(), 32)}
	if err := nl.AddrAdd(link, &netlink.Addr{IPNet: address}); err != nil {
		return fmt.Errorf("adding address %s: %w", t.spec.address, err)
	}
	return t.addRoute()
}

// addRoute adds the paper's own route (Fig-4): the segment's network by way of
// the VNIC's address. The kernel made the other, on-link, with the address; ours
// is put before it, as `route add -net … gw …` does.
func (t *tap) addRoute() error {
	subnet := t.spec.address.Masked()
	route := &netlink.Route{
		LinkIndex: t.link.Attrs().Index,
		Dst:       &net.IPNet{IP: subnet.Addr().AsSlice(), Mask: net.CIDRMask(subnet.Bits(), 32)},
		Gw:        t.spec.address.Addr().AsSlice(),
	}
	if err := t.ns.netlink.RouteAddEcmp(route); err != nil {
		return fmt.Errorf("adding the route to %s by way of %s: %w", subnet, t.spec.address.Addr(), err)
	}
	return nil
}

func (t *tap) setMTU(mtu int) error {
	if err := t.ns.netlink.LinkSetMTU(t.link, mtu); err != nil {
		return fmt.Errorf("VNIC %s: setting MTU %d: %w", t.spec.iface, mtu, err)
	}
	return nil
}

// setNeighbours makes each alias resolve to a MAC. Aliases that are no longer
// named keep theirs: flows may still use them.
func (t *tap) setNeighbours(macs map[netip.Addr]MAC) error {
	for alias, mac := range macs {
		if t.macs[alias] == mac {
			continue
		}
		err := t.ns.netlink.NeighSet(&netlink.Neigh{
			LinkIndex: t.link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
			IP: alias.AsSlice(), HardwareAddr: net.HardwareAddr(mac[:]),
		})
		if err != nil {
			return fmt.Errorf("VNIC %s: setting neighbour %s: %w", t.spec.iface, alias, err)
		}
		t.macs[alias] = mac
	}
	return nil
}

// close removes the device: it does not outlive its last descriptor.
func (t *tap) close() error { return t.file.Close() }

// receive takes the frames that are there, one system call each: a TAP has no
// other way.
func (t *tap) receive(batch []frame) (int, error) {
	n := 0
	var errno error
	err := t.raw.Read(func(fd uintptr) bool {
		for n < min(len(batch), len(t.frames)) {
			length, err := unix.Read(int(fd), t.frames[n])
			if err == unix.EAGAIN {
				return n > 0
			}
			if err == unix.EINTR {
				continue
			}
			if errno = err; err != nil {
				return true
			}
			if length >= vnetHeaderLen {
				batch[n] = frame{data: t.frames[n][:length]}
				n++
			}
		}
		return true
	})
	if err == nil && n == 0 && errno != nil {
		err = fmt.Errorf("VNIC %s: read: %w", t.spec.iface, errno)
	}
	return n, err
}

// send puts frames into the segment's stack, as if they had come by a wire.
func (t *tap) send(frames []frame) (sent int) {
	_ = t.raw.Write(func(fd uintptr) bool {
		for _, f := range frames {
			if _, err := unix.Write(int(fd), f.data); err == nil {
				sent++
			}
		}
		return true
	})
	return sent
}
