package host

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// watchBuffer is the size of a subscription's buffer, in bytes. Making a segment with a large
// pool of aliases causes many messages at once.
const watchBuffer = 1 << 20

// resubscribeInterval is the pause before the watch begins again if messages overflowed the
// buffer.
const resubscribeInterval = 100 * time.Millisecond

// watch hints at changes until the machine is closed. It returns when the first subscription
// is made, so that nothing is missed afterwards.
func (m *Machine) watch() error {
	ended, err := m.subscribe()
	if err != nil {
		return err
	}
	m.watching.Go(func() {
		for {
			select {
			case <-m.done:
				return
			case <-ended:
			}
			m.Hint() // something may have been missed
			select {
			case <-m.done:
				return
			case <-time.After(resubscribeInterval):
			}
			if again, err := m.subscribe(); err == nil {
				ended = again
			}
		}
	})
	return nil
}

// Hint says that something may have changed, but not what. The listener looks at everything,
// so several hints may become one.
func (m *Machine) Hint() {
	select {
	case m.hints <- struct{}{}:
	default:
	}
}

// subscribe hints at each message about links, addresses, rules, filters and settings, and
// about routes and neighbours of our VNICs. It closes ended when a subscription ends.
func (m *Machine) subscribe() (ended <-chan struct{}, err error) {
	stop, over := make(chan struct{}), make(chan struct{})
	addrs := make(chan netlink.AddrUpdate)
	routes, neighbours := make(chan netlink.RouteUpdate), make(chan netlink.NeighUpdate)
	ns := m.NS.ref()
	links, err := m.subscribeLinks(stop)
	if err == nil {
		err = netlink.AddrSubscribeWithOptions(addrs, stop, netlink.AddrSubscribeOptions{Namespace: ns, ReceiveBufferSize: watchBuffer})
	}
	if err == nil {
		err = netlink.RouteSubscribeWithOptions(routes, stop, netlink.RouteSubscribeOptions{Namespace: ns, ReceiveBufferSize: watchBuffer})
	}
	if err == nil {
		err = netlink.NeighSubscribeWithOptions(neighbours, stop, netlink.NeighSubscribeOptions{Namespace: ns, ReceiveBufferSize: watchBuffer})
	}
	others := make(chan struct{})
	if err == nil {
		err = subscribeOthers(m.NS, others, stop)
	}
	if err != nil {
		close(stop)
		return nil, fmt.Errorf("watching devices, addresses, routes, rules and neighbours: %w", err)
	}
	go func() {
		defer close(over)
		defer close(stop)
		for ok, ours := true, true; ok; {
			var l linkMessage
			var r netlink.RouteUpdate
			var n netlink.NeighUpdate
			select {
			case <-m.done:
				return
			case l, ok = <-links:
				m.noteLink(l)
				ours = true
			case _, ok = <-addrs:
				ours = true
			case _, ok = <-others:
				ours = true
			case r, ok = <-routes:
				_, ours = m.Own.Load(r.LinkIndex)
			case n, ok = <-neighbours:
				_, ours = m.Own.Load(n.LinkIndex)
			}
			if ok && ours {
				m.Hint()
			}
		}
	}()
	return over, nil
}

// subscribeOthers reports each message about routing rules, traffic control, and devices'
// settings, for which package netlink has no subscriptions. It closes changes when the
// subscription ends.
func subscribeOthers(ns *Namespace, changes chan<- struct{}, stop <-chan struct{}) error {
	at := netns.None()
	if ref := ns.ref(); ref != nil {
		at = *ref
	}
	s, err := nl.SubscribeAt(at, netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_TC,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return err
	}
	_ = s.SetReceiveBufferSize(watchBuffer, false) // best effort
	go func() {
		<-stop
		s.Close()
	}()
	go func() {
		defer close(changes)
		for {
			if _, _, err := s.Receive(); err != nil {
				return
			}
			select {
			case changes <- struct{}{}:
			case <-stop:
				return
			}
		}
	}()
	return nil
}
