package vnicbridge

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clsact is a device's place for filters, of what comes in and of what goes out: a qdisc
// that does nothing else (tc(8)). Others may use it as well.
type clsact struct {
	ns      *namespace
	ifindex int
}

// Filters of ours are found by their name, which also says who made the clsact.
const (
	filterName       = "caddy-vnic"
	filterNameClsact = filterName + " and its clsact"
)

// ensure adds the clsact if there is none, and tells whether it is ours to remove.
func (c clsact) ensure() (ours bool, err error) {
	switch err = c.add(); {
	case err == nil:
		return true, nil
	case !errors.Is(err, unix.EEXIST):
		return false, fmt.Errorf("adding the clsact qdisc (is the module there? modprobe sch_ingress): %w", err)
	}
	filters, err := c.filters()
	return slices.ContainsFunc(filters, func(other netlink.Filter) bool {
		b := ourFilter(other)
		return b != nil && b.Name == filterNameClsact
	}), err
}

// add leaves the device's queue as it is: if a device has no queue (a veth), the kernel
// gives it a length of 1000 with any qdisc.
func (c clsact) add() error {
	link, err := c.ns.netlink.LinkByIndex(c.ifindex)
	if err != nil {
		return err
	}
	if err := c.ns.netlink.QdiscAdd(c.qdisc()); err != nil {
		return err
	}
	return c.ns.netlink.LinkSetTxQLen(link, link.Attrs().TxQLen)
}

func (c clsact) qdisc() netlink.Qdisc {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: c.ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// filters lists the filters of both directions.
func (c clsact) filters() (all []netlink.Filter, err error) {
	device := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: c.ifindex}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := retryDump(func() ([]netlink.Filter, error) { return c.ns.netlink.FilterList(device, parent) })
		if err != nil && !isGone(err) {
			return nil, fmt.Errorf("listing the filters: %w", err)
		}
		all = append(all, filters...)
	}
	return all, nil
}

// remove takes a filter of ours away, and then the clsact if [clsact.tidy] does. The device
// may be gone, and both with it.
func (c clsact) remove(ours *netlink.BpfFilter) error {
	if err := c.ns.netlink.FilterDel(ours); err != nil && !isGone(err) {
		return fmt.Errorf("removing the filter: %w", err)
	}
	return c.tidy(ours.Name)
}

// tidy removes the clsact if it is ours, which the name of our filter tells, and nobody
// uses it any more.
func (c clsact) tidy(name string) error {
	if name != filterNameClsact {
		return nil
	}
	filters, err := c.filters()
	if err == nil && len(filters) == 0 {
		err = c.ns.netlink.QdiscDel(c.qdisc())
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("removing the clsact qdisc: %w", err)
	}
	return nil
}

// removeStale removes the filters that killed processes left on a device that is now this
// process's.
func (c clsact) removeStale() error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	for _, f := range filters {
		if b := ourFilter(f); b != nil {
			if err := c.remove(b); err != nil {
				return fmt.Errorf("of an earlier run: %w", err)
			}
		}
	}
	return nil
}

func ourFilter(f netlink.Filter) *netlink.BpfFilter {
	b, ok := f.(*netlink.BpfFilter)
	if !ok || b.Name != filterName && b.Name != filterNameClsact {
		return nil
	}
	return b
}

// isGone tells that a filter, a qdisc or a device was not there.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
