package host

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Clsact is a device's qdisc that only has filters, for packets that come in and for packets
// that go out (tc(8)). Other programs may use it, too.
type Clsact struct {
	NS      *Namespace
	Ifindex int
}

// The names of our filters. The second one says that this program also made the clsact.
const (
	FilterName       = "caddy-vnic"
	FilterNameClsact = FilterName + " and its clsact"
)

// Ensure adds the clsact if there is none, and tells whether this program made it and may
// remove it.
func (c Clsact) Ensure() (ours bool, err error) {
	switch err = c.add(); {
	case err == nil:
		return true, nil
	case !errors.Is(err, unix.EEXIST):
		return false, fmt.Errorf("adding the clsact qdisc (is the module there? modprobe sch_ingress): %w", err)
	}
	filters, err := c.Filters()
	return slices.ContainsFunc(filters, func(other netlink.Filter) bool {
		b := OurFilter(other)
		return b != nil && b.Name == FilterNameClsact
	}), err
}

// add adds the clsact and restores the length of the device's queue. With any qdisc, the
// kernel sets the length of a device without a queue, such as a veth, to 1000.
func (c Clsact) add() error {
	link, err := c.NS.Netlink.LinkByIndex(c.Ifindex)
	if err != nil {
		return err
	}
	if err := c.NS.Netlink.QdiscAdd(c.qdisc()); err != nil {
		return err
	}
	return c.NS.Netlink.LinkSetTxQLen(link, link.Attrs().TxQLen)
}

func (c Clsact) qdisc() netlink.Qdisc {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: c.Ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// Filters lists the filters of both directions.
func (c Clsact) Filters() (all []netlink.Filter, err error) {
	device := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: c.Ifindex}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := RetryDump(func() ([]netlink.Filter, error) { return c.NS.Netlink.FilterList(device, parent) })
		if err != nil && !IsGone(err) {
			return nil, fmt.Errorf("listing the filters: %w", err)
		}
		all = append(all, filters...)
	}
	return all, nil
}

// Remove removes a filter of ours, and then the clsact as [Clsact.Tidy] does. It is no error
// if the device is gone.
func (c Clsact) Remove(ours *netlink.BpfFilter) error {
	if err := c.NS.Netlink.FilterDel(ours); err != nil && !IsGone(err) {
		return fmt.Errorf("removing the filter: %w", err)
	}
	return c.Tidy(ours.Name)
}

// Tidy removes the clsact if the name of our filter says that this program made it, and if it
// has no filters any more.
func (c Clsact) Tidy(name string) error {
	if name != FilterNameClsact {
		return nil
	}
	filters, err := c.Filters()
	if err == nil && len(filters) == 0 {
		err = c.NS.Netlink.QdiscDel(c.qdisc())
	}
	if err != nil && !IsGone(err) {
		return fmt.Errorf("removing the clsact qdisc: %w", err)
	}
	return nil
}

// removeStale removes the filters that killed processes left on a device that is now this
// process's.
func (c Clsact) removeStale() error {
	filters, err := c.Filters()
	if err != nil {
		return err
	}
	for _, f := range filters {
		if b := OurFilter(f); b != nil {
			if err := c.Remove(b); err != nil {
				return fmt.Errorf("cleaning up after an earlier run: %w", err)
			}
		}
	}
	return nil
}

// OurFilter returns a filter of this program, of this process or another, or nil.
func OurFilter(f netlink.Filter) *netlink.BpfFilter {
	b, ok := f.(*netlink.BpfFilter)
	if !ok || b.Name != FilterName && b.Name != FilterNameClsact {
		return nil
	}
	return b
}

// IsGone tells that a filter, a qdisc or a device was not there.
func IsGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
