package kernel

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// slowTAP is the way of packets that a BPF program leaves to userspace: a TAP device
// into which the program redirects them. Unlike a copy of their bytes, they arrive as
// they were, segmentation and unfinished checksums included.
type slowTAP struct {
	*host.TAPQueue
	ifindex int
}

// slowQueue is how many packets may wait. More than the default 500: they come in
// bursts when a busy NIC's gateway is not resolved yet.
const slowQueue = 4096

// makeSlowTAP makes a device without an address. Nothing is ever sent by it.
func makeSlowTAP(m *host.Machine) (t *slowTAP, err error) {
	t = new(slowTAP)
	err = m.NS.Do(func() error {
		if t.TAPQueue, err = host.OpenTAP("vnic-slow%d"); err != nil {
			return err
		}
		_, err = host.SetSysctls(t.Name, host.VNICSysctls)
		return err
	})
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

// Close removes the device as soon as its reader has taken what waits: that is of flows
// that live on, on another data path.
func (t *slowTAP) Close() error {
	const pause = time.Millisecond
	for waited := time.Duration(0); waited < time.Second && t.waiting(); waited += pause {
		time.Sleep(pause)
	}
	return t.File.Close()
}

// waiting tells whether there is something to read.
func (t *slowTAP) waiting() bool {
	ready := 0
	err := t.Control(func(fd int) (err error) {
		ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err
	})
	return err == nil && ready > 0
}
