package kernel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// The priorities of our filters, of which the lowest runs first. Filters that tc adds without
// a priority come later. If filters of others have lower priorities, ours get still lower
// ones. A capture sees packets before they are redirected, and the filter that makes a veth
// pair a dead end comes last.
const (
	capturePriority = filterPriority - 1
	filterPriority  = host.DeadEndPriority - 1
)

// filter is a program on a device by clsact, for kernels without tcx: a filter whose program
// decides what happens to a packet. If this process is killed, the filter stays, and its
// program lets every packet pass (awake in bridge.c).
type filter struct {
	clsact host.Clsact
	netlink.BpfFilter
	rank    rank
	program *ebpf.Program
}

// attachFilter puts a program on a device as a filter. It adds the clsact if there is none.
func attachFilter(ns *host.Namespace, ifindex int, attach ebpf.AttachType, program *ebpf.Program, r rank) (*filter, error) {
	info, err := program.Info()
	if err != nil {
		return nil, err
	}
	id, _ := info.ID()
	f := &filter{clsact: host.Clsact{NS: ns, Ifindex: ifindex}, rank: r, program: program, BpfFilter: netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_INGRESS, Handle: uint32(id), // unique among our filters
			Protocol: unix.ETH_P_ALL,
		},
		Fd: program.FD(), Name: host.FilterName, DirectAction: true,
	}}
	if attach == ebpf.AttachTCXEgress {
		f.Parent = netlink.HANDLE_MIN_EGRESS
	}
	ours, err := f.clsact.Ensure()
	if err != nil {
		return nil, err
	}
	if ours {
		f.Name = host.FilterNameClsact
	}
	if err := f.put(); err != nil {
		return nil, errors.Join(err, f.clsact.Tidy(f.Name))
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
	if err := f.clsact.NS.Netlink.FilterAdd(&f.BpfFilter); err != nil {
		return fmt.Errorf("adding the filter (is the module there? modprobe cls_bpf): %w", err)
	}
	return nil
}

// priorityBefore returns the priority with which a filter of ours comes before those of
// others. others are sorted by priority. If one has the lowest priority, 1, ours can share
// that only with a filter of the same kind, and the newest of them comes first. If the filter
// is of another kind, ours stays behind it.
func priorityBefore(others []netlink.Filter, r rank) uint16 {
	priority := map[rank]int{Captures: capturePriority, carries: filterPriority}[r]
	if len(others) == 0 {
		return uint16(priority)
	}
	first := others[0].Attrs()
	switch _, same := others[0].(*netlink.BpfFilter); {
	case first.Priority > 1:
		lead := map[rank]int{Captures: 2, carries: 1}[r]
		return uint16(max(1, min(priority, int(first.Priority)-lead)))
	case same && first.Protocol == unix.ETH_P_ALL:
		return 1
	default:
		return uint16(priority)
	}
}

// others returns the filters of other programs on the same side of the device, in the order
// in which they run.
func (f *filter) others() ([]netlink.Filter, error) {
	all, err := f.sameSide()
	return slices.DeleteFunc(all, func(other netlink.Filter) bool { return host.OurFilter(other) != nil || host.IsDeadEnd(other) }), err
}

func (f *filter) sameSide() ([]netlink.Filter, error) {
	all, err := f.clsact.Filters()
	return slices.DeleteFunc(all, func(other netlink.Filter) bool { return other.Attrs().Parent != f.Parent }), err
}

func (f *filter) ahead() (names []string, stands bool, err error) {
	all, err := f.sameSide()
	for _, other := range all {
		b := host.OurFilter(other)
		if b != nil && b.Handle == f.Handle && b.Priority == f.Priority {
			return names, true, nil
		}
		if b == nil && !host.IsDeadEnd(other) {
			names = append(names, fmt.Sprintf("the filter of priority %d (%s)", other.Attrs().Priority, other.Type()))
		}
	}
	return nil, false, err
}

// raise adds the filter with the priority that it needs now, and removes the old one. If the
// priority stays the same, it must remove the old one first.
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
		err = f.clsact.NS.Netlink.FilterDel(&old)
	}
	if err == nil || host.IsGone(err) {
		err = nil
		if !moves {
			err = f.put()
		}
	}
	return err
}

// Close removes the filter. It is no error if the device is gone.
func (f *filter) Close() error {
	defer func() { _ = f.program.Close() }()
	return f.clsact.Remove(&f.BpfFilter)
}
