package vnicbridge

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Filters of ours are found by their name, which also says who made the clsact. Their
// priority lets those that tc adds without one come later; where others have lower ones,
// ours get lower ones still. A capture sees packets before they are redirected.
const (
	capturePriority  = filterPriority - 1
	filterPriority   = 7660
	filterName       = "caddy-vnic"
	filterNameClsact = filterName + " and its clsact"
)

// filter is a program on a device by clsact, for kernels without tcx: a filter that
// says itself what becomes of a packet. It stays when this process is killed, and
// then lets everything pass (awake in bridge.c).
type filter struct {
	ns *namespace
	netlink.BpfFilter
	rank    rank
	program *ebpf.Program // nil for one of an earlier run
}

// attachFilter puts a program on a device as a filter. clsact is added where it is
// not: others may use it as well.
func (m *linuxMachine) attachFilter(ifindex int, attach ebpf.AttachType, program *ebpf.Program, r rank) (*filter, error) {
	info, err := program.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.ID()
	f := &filter{ns: m.ns, rank: r, program: program, BpfFilter: netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_INGRESS, Handle: uint32(id), // which no other filter of ours has
			Protocol: unix.ETH_P_ALL,
		},
		Fd: program.FD(), Name: filterName, DirectAction: true,
	}}
	if attach == ebpf.AttachTCXEgress {
		f.Parent = netlink.HANDLE_MIN_EGRESS
	}
	ours, err := f.ensureClsact()
	if err != nil {
		return nil, err
	}
	if ours {
		f.Name = filterNameClsact
	}
	if err := f.put(); err != nil {
		return nil, errors.Join(err, f.tidy())
	}
	return f, nil
}

// put adds the filter before those of others.
func (f *filter) put() error {
	others, err := f.others()
	if err != nil {
		return err
	}
	f.Priority = priorityBefore(others, f.rank)
	if err := f.ns.netlink.FilterAdd(&f.BpfFilter); err != nil {
		return fmt.Errorf("adding the filter (is the module there? modprobe cls_bpf): %w", err)
	}
	return nil
}

// priorityBefore is a priority with which a filter of ours comes before others, which are
// in order. At the lowest one, of filters of a kind the newest comes first; with another
// kind there it cannot be shared, and ours stays behind.
func priorityBefore(others []netlink.Filter, r rank) uint16 {
	priority := map[rank]int{captures: capturePriority, carries: filterPriority}[r]
	if len(others) == 0 {
		return uint16(priority)
	}
	first := others[0].Attrs()
	switch _, same := others[0].(*netlink.BpfFilter); {
	case first.Priority > 1:
		lead := map[rank]int{captures: 2, carries: 1}[r]
		return uint16(max(1, min(priority, int(first.Priority)-lead)))
	case same && first.Protocol == unix.ETH_P_ALL:
		return 1
	default:
		return uint16(priority)
	}
}

// others are the filters of others on the same side of the device, in the order in which
// they run.
func (f *filter) others() ([]netlink.Filter, error) {
	all, err := f.sameSide()
	return slices.DeleteFunc(all, func(other netlink.Filter) bool { return ourFilter(other) != nil || isDeadEnd(other) }), err
}

func (f *filter) sameSide() ([]netlink.Filter, error) {
	all, err := filtersOn(f.ns, f.LinkIndex)
	return slices.DeleteFunc(all, func(other netlink.Filter) bool { return other.Attrs().Parent != f.Parent }), err
}

func (f *filter) ahead() (names []string, stands bool, err error) {
	all, err := f.sameSide()
	for _, other := range all {
		b := ourFilter(other)
		if b != nil && b.Handle == f.Handle && b.Priority == f.Priority {
			return names, true, nil
		}
		if b == nil && !isDeadEnd(other) {
			names = append(names, fmt.Sprintf("the filter of priority %d (%s)", other.Attrs().Priority, other.Type()))
		}
	}
	return nil, false, err
}

// raise adds the filter anew before the old one goes, if it has another priority now.
func (f *filter) raise() error {
	old := f.BpfFilter
	others, err := f.others()
	if err != nil {
		return err
	}
	moves := priorityBefore(others, f.rank) != old.Priority
	if moves {
		err = f.put()
	}
	if err == nil {
		err = f.ns.netlink.FilterDel(&old)
	}
	if err == nil || isGone(err) {
		err = nil
		if !moves {
			err = f.put()
		}
	}
	return err
}

// heartbeatInterval is well below what the programs wait for (HEARTBEAT_NS in
// bridge.c).
const heartbeatInterval = 500 * time.Millisecond

// beat tells the programs of filters that this process lives. Nothing else may hold
// it up.
func (k *kernelPath) beat() {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		k.plane.heartbeat.Store(uint64(programClock()))
		select {
		case <-k.done:
			return
		case <-ticker.C:
		}
	}
}

// ensureClsact sees to it that there is a clsact, and tells whether it is ours to
// remove.
func (f *filter) ensureClsact() (ours bool, err error) {
	switch err = f.addClsact(); {
	case err == nil:
		return true, nil
	case !errors.Is(err, unix.EEXIST):
		return false, fmt.Errorf("adding the clsact qdisc (is the module there? modprobe sch_ingress): %w", err)
	}
	filters, err := filtersOn(f.ns, f.LinkIndex)
	return slices.ContainsFunc(filters, func(other netlink.Filter) bool {
		b := ourFilter(other)
		return b != nil && b.Name == filterNameClsact
	}), err
}

// addClsact leaves the device's queue as it is: to one that has none (a veth) the
// kernel gives a length of 1000 with any qdisc.
func (f *filter) addClsact() error {
	link, err := f.ns.netlink.LinkByIndex(f.LinkIndex)
	if err != nil {
		return err
	}
	if err := f.ns.netlink.QdiscAdd(f.clsact()); err != nil {
		return err
	}
	return f.ns.netlink.LinkSetTxQLen(link, link.Attrs().TxQLen)
}

func (f *filter) clsact() netlink.Qdisc {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: f.LinkIndex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// Close takes the filter away, and clsact, if that is ours and nobody uses it any
// more. The device may be gone, and both with it.
func (f *filter) Close() error {
	defer func() { _ = f.program.Close() }() // also none
	if err := f.ns.netlink.FilterDel(&f.BpfFilter); err != nil && !isGone(err) {
		return fmt.Errorf("removing the filter: %w", err)
	}
	return f.tidy()
}

func (f *filter) tidy() error {
	if f.Name != filterNameClsact {
		return nil
	}
	filters, err := filtersOn(f.ns, f.LinkIndex)
	if err == nil && len(filters) == 0 {
		err = f.ns.netlink.QdiscDel(f.clsact())
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("removing the clsact qdisc: %w", err)
	}
	return nil
}

// removeStaleFilters removes what killed processes left on a device that is this
// process's now.
func removeStaleFilters(ns *namespace, ifindex int) error {
	filters, err := filtersOn(ns, ifindex)
	if err != nil {
		return err
	}
	for _, other := range filters {
		if b := ourFilter(other); b != nil {
			if err := (&filter{ns: ns, BpfFilter: *b}).Close(); err != nil {
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

// filtersOn lists all filters at a device's clsact.
func filtersOn(ns *namespace, ifindex int) (all []netlink.Filter, err error) {
	device := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := retryDump(func() ([]netlink.Filter, error) { return ns.netlink.FilterList(device, parent) })
		if err != nil && !isGone(err) {
			return nil, fmt.Errorf("listing the filters: %w", err)
		}
		all = append(all, filters...)
	}
	return all, nil
}

// isGone tells that a filter, a qdisc or a device was not there.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
