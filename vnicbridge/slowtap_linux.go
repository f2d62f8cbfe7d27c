package vnicbridge

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// slowTAP is the way of packets that a BPF program leaves to userspace: a TAP device
// into which the program redirects them. Unlike a copy of their bytes, they arrive as
// they were, segmentation and unfinished checksums included.
type slowTAP struct {
	*tapQueue
	ifindex int
}

// slowQueue is how many packets may wait. More than the default 500: they come in
// bursts when a busy NIC's gateway is not resolved yet.
const slowQueue = 4096

// makeSlowTAP makes a device without an address. Nothing is ever sent by it.
func makeSlowTAP(m *linuxMachine) (t *slowTAP, err error) {
	t = new(slowTAP)
	err = m.ns.do(func() error {
		if t.tapQueue, err = openTAP("vnic-slow%d"); err != nil {
			return err
		}
		_, err = setSysctls(t.name, vnicSysctls)
		return err
	})
	if err == nil {
		err = t.setUp(m.ns)
	}
	if err != nil {
		if t.tapQueue != nil {
			_ = t.close()
		}
		return nil, fmt.Errorf("making the TAP device of the slow path: %w", err)
	}
	m.own.Store(t.ifindex, nil)
	return t, nil
}

func (t *slowTAP) setUp(ns *namespace) error {
	link, err := ns.netlink.LinkByName(t.name)
	if err != nil {
		return err
	}
	t.ifindex = link.Attrs().Index
	for _, set := range []func(netlink.Link) error{
		ns.netlink.LinkSetARPOff,
		func(l netlink.Link) error { return ns.netlink.LinkSetTxQLen(l, slowQueue) },
		ns.netlink.LinkSetUp,
	} {
		if err := set(link); err != nil {
			return err
		}
	}
	return nil
}

// close removes the device as soon as its reader has taken what waits: that is of flows
// that live on, on another data path.
func (t *slowTAP) close() error {
	const pause = time.Millisecond
	for waited := time.Duration(0); waited < time.Second && t.waiting(); waited += pause {
		time.Sleep(pause)
	}
	return t.file.Close()
}

// waiting tells whether there is something to read.
func (t *slowTAP) waiting() bool {
	ready := 0
	err := t.control(func(fd int) (err error) {
		ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err
	})
	return err == nil && ready > 0
}
