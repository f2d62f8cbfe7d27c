package host

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// tunPath is the device by which the kernel makes TAP devices.
const tunPath = "/dev/net/tun"

// The offloads of a TAP (include/uapi/linux/if_tun.h): its frames come unsegmented and with
// unfinished checksums, and go to the NIC as they are. UDP segmentation needs Linux 6.2.
const (
	tapOffloads    = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	tapOffloadsUDP = tapOffloads | unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// TAP is a VNIC: a TAP device.
type TAP struct {
	VNICSetup
	*TAPQueue
	shared *atomic.Bool // a predecessor may still go on with the device; nil: this process made it
}

// TAPQueue is the one queue of a TAP device. The device lives as long as somebody holds the queue:
// this process, or a service manager that keeps it for the next one.
type TAPQueue struct {
	Name   string
	File   *os.File
	raw    syscall.RawConn
	paused atomic.Bool

	// Who has the turn reads frames, and carries them before somebody else reads the next. It guards
	// what follows.
	turn      sync.Mutex
	frames    [][]byte
	truncated bool           // a frame did not fit, so the buffers must grow
	polled    []packet.Frame // by Poll

	received bool // Receive has the turn
}

// MakeVNIC makes the VNIC of a segment: a TAP, or a veth pair if the segment has a namespace
// of its own. The error says so if a device of that name exists. If the segment's server is behind
// a device, that is opened.
func (m *Machine) MakeVNIC(spec VNICSpec) (VNIC, error) {
	if spec.Remote {
		return m.openDevice(spec)
	}
	if spec.Netns != "" {
		return m.makeVeth(spec)
	}
	t := &TAP{VNICSetup: VNICSetup{NS: m.NS, Spec: spec, sysctls: VNICSysctls(spec.has(config.IPv6))}}
	var err error
	if file := m.inherited.Take(TAPFile(spec.Iface)); file != nil {
		t.shared = &m.shared
		t.TAPQueue, err = InheritTAP(file)
	} else {
		err = t.make()
	}
	if err == nil {
		err = t.findOrClose()
	}
	if err != nil {
		return nil, fmt.Errorf("VNIC %s: %w", spec.Iface, err)
	}
	m.Own.Store(t.Ifindex, nil)
	return t, nil
}

func (t *TAP) make() (err error) {
	return t.NS.Do(func() (err error) {
		t.TAPQueue, err = OpenTAP(t.Spec.Iface)
		return err
	})
}

func (t *TAP) findOrClose() error {
	if err := t.find(); err != nil {
		return errors.Join(err, t.File.Close())
	}
	return nil
}

// TAPFile is the name by which a successor knows the queue of a VNIC's TAP.
func TAPFile(device string) string { return "tap/" + device }

// Files returns the open file of the device for a successor.
func (t *TAP) Files() (succession.Files, error) { return t.TAPQueue.Files(TAPFile(t.Spec.Iface)) }

// Files returns the open file of the queue for a successor, who knows it by a name.
func (t *TAPQueue) Files(name string) (succession.Files, error) {
	file, err := succession.Duplicate(t.File, name)
	return succession.Files{name: file}, err
}

// InheritTAP returns the queue of a TAP device that a predecessor has made.
func InheritTAP(file *os.File) (q *TAPQueue, err error) {
	q = &TAPQueue{File: file}
	if q.raw, err = file.SyscallConn(); err == nil {
		err = q.Control(func(fd int) error {
			request, _ := unix.NewIfreq("") // fails only on a long name
			err := unix.IoctlIfreq(fd, unix.TUNGETIFF, request)
			q.Name = request.Name()
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking over the TAP device of %s: %w", file.Name(), err), file.Close())
	}
	q.prepare()
	return q, nil
}

// prepare makes the buffers.
func (t *TAPQueue) prepare() {
	t.frames, t.polled = make([][]byte, iface.BatchSize), make([]packet.Frame, iface.BatchSize)
	t.allocate(usualFrameLen)
}

// OpenTAP makes a TAP device in the namespace of the calling thread. In its name, %d stands
// for the first free number. Package water can neither insist that the device is new nor ask
// for offload headers. Therefore makeTAP makes the device with a first queue, water opens a
// second queue, and OpenTAP closes the first one.
func OpenTAP(name string) (*TAPQueue, error) {
	first, name, err := makeTAP(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(first) }()

	// water does not set close-on-exec, so no child process may start until OpenTAP has.
	syscall.ForkLock.RLock()
	dev, err := water.New(water.Config{
		DeviceType:             water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: name, MultiQueue: true},
	})
	if err != nil {
		syscall.ForkLock.RUnlock()
		return nil, fmt.Errorf("opening the TAP device: %w", err)
	}
	q := &TAPQueue{Name: name, File: dev.ReadWriteCloser.(*os.File)}
	q.raw, err = q.File.SyscallConn()
	if err == nil {
		err = q.Control(func(fd int) error { unix.CloseOnExec(fd); return nil })
	}
	syscall.ForkLock.RUnlock()
	if err == nil {
		err = q.Control(setOffloads)
	}
	if err != nil {
		_ = q.File.Close()
		return nil, err
	}
	q.prepare()
	return q, nil
}

// allocate makes the buffers anew.
func (t *TAPQueue) allocate(length int) {
	t.truncated = false
	for i := range t.frames {
		t.frames[i] = make([]byte, length)
	}
}

// makeTAP makes a TAP device and returns its first queue and its name. It is an error if a
// device has that name already.
func makeTAP(name string) (fd int, given string, err error) {
	fd, err = unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", tunError(err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EBUSY) {
			return -1, "", existsError(name)
		}
		return -1, "", fmt.Errorf("making the TAP device: %w", err)
	}
	return fd, request.Name(), nil
}

func existsError(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil && link.Type() == "tuntap" && link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 { // somebody reads it
		return fmt.Errorf("a device %s exists already, and a process has it open, another Caddy for one: stop that process, or choose another `interface`", name)
	}
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

// Control runs a function with the queue's descriptor.
func (t *TAPQueue) Control(f func(fd int) error) (err error) {
	if e := t.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// Pause makes Receive return [os.ErrDeadlineExceeded] until it is called again with false, and Poll
// find nothing. Frames wait in the queue meanwhile.
func (t *TAPQueue) Pause(on bool) error {
	t.paused.Store(on)
	return t.File.SetReadDeadline(pauseUntil(on))
}

// pauseUntil returns the deadline that ends all reads, or none.
func pauseUntil(on bool) (deadline time.Time) {
	if on {
		deadline = time.Unix(1, 0) // long ago
	}
	return deadline
}

// Close removes the device, and the rules, which would outlive it. A predecessor's device stays
// while that may still go on with it.
func (t *TAP) Close() error {
	if t.shared != nil && t.shared.Load() {
		return t.File.Close()
	}
	return errors.Join(t.TAPQueue.Remove(t.NS, t.Ifindex), t.removeRules())
}

// Remove closes the queue and removes its device, whoever else holds the queue. Then the device's
// name is free. It is no error if the device is gone.
func (t *TAPQueue) Remove(ns *Namespace, ifindex int) error {
	err := t.File.Close()
	if link, gone := ns.Netlink.LinkByIndex(ifindex); gone == nil {
		if removed := ns.Netlink.LinkDel(link); removed != nil && !IsGone(removed) {
			err = errors.Join(err, removed)
		}
	}
	return err
}

// Receive waits for frames and fills the batch with those that wait, by one system call each,
// because a TAP has no other way. The frames' bytes are valid until the next call.
func (t *TAPQueue) Receive(batch []packet.Frame) (n int, err error) {
	if t.received {
		t.received = false
		t.turn.Unlock()
	}
	var errno error
	err = t.raw.Read(func(fd uintptr) bool {
		t.turn.Lock()
		if n, errno = t.read(int(fd), batch); n > 0 {
			t.received = true
			return true
		}
		t.turn.Unlock()
		return errno != nil
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("device %s: read: %w", t.Name, errno)
	}
	return n, err
}

// Poll gives carry the frames that wait, unless somebody else has the turn.
func (t *TAPQueue) Poll(carry func([]packet.Frame)) {
	if t.paused.Load() || !t.turn.TryLock() {
		return
	}
	defer t.turn.Unlock()
	n := 0
	_ = t.raw.Control(func(fd uintptr) { n, _ = t.read(int(fd), t.polled) }) // Receive finds the same error
	if n > 0 {
		carry(t.polled[:n])
	}
}

// read fills the batch with the frames that wait. The caller has the turn.
func (t *TAPQueue) read(fd int, batch []packet.Frame) (n int, err error) {
	if length := len(t.frames[0]); t.truncated && length < largestFrameLen {
		t.allocate(2 * length)
	}
	for n < min(len(batch), len(t.frames)) {
		length, err := unix.Read(fd, t.frames[n])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return n, nil
		case err != nil:
			return n, err
		case length == len(t.frames[n]): // the only sign of a longer frame
			t.truncated = true
		case length >= packet.VNetHeaderLen:
			batch[n] = packet.Frame{Data: t.frames[n][:length]}
			n++
		}
	}
	return n, nil
}

// Send puts frames into the segment's network stack and returns how many the kernel took.
func (t *TAPQueue) Send(frames []packet.Frame) (sent int) {
	_ = t.raw.Write(func(fd uintptr) bool {
		for _, f := range frames {
			if _, err := unix.Write(int(fd), f.Data); err == nil {
				sent++
			}
		}
		return true
	})
	return sent
}
