package kernel

import (
	"fmt"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// slowTAP is a TAP device to which a BPF program redirects the packets that it leaves to
// userspace. Packets arrive there with their offload headers, so that they stay unsegmented
// and their checksums unfinished. A copy of their bytes would lose that.
type slowTAP struct {
	*host.TAPQueue
	machine   *host.Machine
	ifindex   int
	inherited bool // it was a predecessor's
}

// slowQueue is how many packets may wait. The default, 500, is too short for the bursts that
// come while a busy NIC's gateway is not resolved yet.
const slowQueue = 4096

const slowPrefix = "slow/"

// slowFile is the name by which a successor knows the slow path's TAP of a device.
func slowFile(device string) string { return slowPrefix + device }

// IsSlow tells whether a file is the slow path's TAP of a device.
func IsSlow(name string) bool { return strings.HasPrefix(name, slowPrefix) }

// slowTAPOf returns the TAP of the slow path of a device: a predecessor's, or a new one.
func slowTAPOf(m *host.Machine, device string) (t *slowTAP, err error) {
	t = &slowTAP{machine: m}
	if file := m.Inherited(slowFile(device)); file != nil {
		t.inherited = true
		t.TAPQueue, err = host.InheritTAP(file)
	} else {
		err = t.make(m.NS)
	}
	if err == nil {
		err = t.setUp(m.NS)
	}
	if err != nil {
		if t.TAPQueue != nil {
			_ = t.Close()
		}
		return nil, fmt.Errorf("making the TAP device of the slow path: %w", err)
	}
	m.Own.Store(t.ifindex, nil)
	return t, nil
}

// make makes a device without an address, by which the host never sends.
func (t *slowTAP) make(ns *host.Namespace) error {
	return ns.Do(func() (err error) {
		if t.TAPQueue, err = host.OpenTAP("vnic-slow%d"); err != nil {
			return err
		}
		_, err = host.SetSysctls(t.Name, host.SlowPathSysctls)
		return err
	})
}

func (t *slowTAP) setUp(ns *host.Namespace) error {
	link, err := ns.Netlink.LinkByName(t.Name)
	if err != nil {
		return err
	}
	t.ifindex = link.Attrs().Index
	for _, set := range []func(netlink.Link) error{
		ns.Netlink.LinkSetARPOff,
		func(l netlink.Link) error { return ns.Netlink.LinkSetTxQLen(l, slowQueue) },
		ns.Netlink.LinkSetUp,
	} {
		if err := set(link); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the device when its reader has taken the packets that wait, after a second at
// most. They belong to flows that go on, on another data path.
func (t *slowTAP) Close() error {
	const pause = time.Millisecond
	for waited := time.Duration(0); waited < time.Second && t.waiting(); waited += pause {
		time.Sleep(pause)
	}
	if t.inherited && t.machine.Shares() {
		return t.File.Close()
	}
	return t.Remove(t.machine.NS, t.ifindex)
}

// waiting tells whether packets wait to be read.
func (t *slowTAP) waiting() bool {
	ready := 0
	err := t.Control(func(fd int) (err error) {
		ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err
	})
	return err == nil && ready > 0
}
