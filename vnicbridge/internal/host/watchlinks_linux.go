package host

import (
	"encoding/binary"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// linkMessage is what a message about a device says (RTM_NEWLINK).
type linkMessage struct {
	index       int
	up          bool // up, and with a carrier
	notifyPeers bool // the kernel announces its own addresses on it now
}

// notifyPeers is IFLA_EVENT_NOTIFY_PEERS of include/uapi/linux/if_link.h: a bond has another
// active member, or a virtual machine has moved to another host.
const notifyPeers = 4

// parseLinkMessage reads a message about a device. Package netlink leaves out why the
// kernel sends it (IFLA_EVENT).
func parseLinkMessage(m syscall.NetlinkMessage) (l linkMessage, ok bool) {
	if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return l, false
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	l.index = int(info.Index)
	l.up = info.Flags&unix.IFF_UP != 0 && info.Flags&unix.IFF_LOWER_UP != 0
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return l, false
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_EVENT && len(a.Value) >= 4 {
			l.notifyPeers = binary.NativeEndian.Uint32(a.Value) == notifyPeers
		}
	}
	return l, true
}

// noteLink notes that a device's peers must be notified, because the kernel notifies them of
// its own addresses, or because the carrier was away, even for a moment.
func (m *Machine) noteLink(l linkMessage) {
	if l.index == 0 {
		return // the message says nothing, or the device is gone
	}
	_, wasDown := m.down.Load(l.index)
	switch {
	case !l.up:
		m.down.Store(l.index, nil)
	case l.notifyPeers || wasDown:
		m.down.Delete(l.index)
		m.peers.Store(l.index, nil)
	}
}

// subscribeLinks gives a message whenever a device changes. It closes the channel when the
// subscription ends.
func (m *Machine) subscribeLinks(stop <-chan struct{}) (<-chan linkMessage, error) {
	ns := netns.None()
	if ref := m.NS.ref(); ref != nil {
		ns = *ref
	}
	s, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return nil, err
	}
	if err := s.SetReceiveBufferSize(watchBuffer, false); err != nil {
		s.Close()
		return nil, err
	}
	go func() {
		<-stop
		s.Close()
	}()
	links := make(chan linkMessage)
	go func() {
		defer close(links)
		for {
			messages, from, err := s.Receive()
			if err != nil {
				return
			}
			if from.Pid != nl.PidKernel {
				continue
			}
			for _, message := range messages {
				l, _ := parseLinkMessage(message) // a message that says nothing is a hint, too
				select {
				case links <- l:
				case <-stop:
					return
				}
			}
		}
	}()
	return links, nil
}
