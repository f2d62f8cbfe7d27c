package vnicbridge

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
)

// veth is the VNIC of a segment with a namespace of its own: the inner end of a veth pair.
// The outer end has the same name, and is the bridge's port. A TAP has no other end that
// could be in another namespace.
type veth struct {
	*packetSocket           // the outer end
	inner         vnicSetup // in the segment's namespace
	outer         vnicSetup // in the host's
	closed        bool
}

// ownerAlias begins the link alias that names a device's owner, because a veth pair outlives
// the process that made it. The process's token follows.
const ownerAlias = "caddy-vnic "

func (m *linuxMachine) makeVeth(spec vnicSpec) (vnicDevice, error) {
	v := &veth{outer: vnicSetup{ns: m.ns, spec: spec, sysctls: outerSysctls}}
	if err := v.make(m, spec); err != nil {
		return nil, errors.Join(fmt.Errorf("VNIC %s in netns %s: %w", spec.iface, spec.netns, err), v.close())
	}
	m.own.Store(v.outer.ifindex, nil)
	return v, nil
}

func (v *veth) make(m *linuxMachine, spec vnicSpec) error {
	segment, err := namedNamespace(spec.netns)
	if err != nil {
		return err
	}
	v.inner = vnicSetup{ns: segment, spec: spec, sysctls: vnicSysctls}
	if err := removeStaleRules(segment); err != nil {
		return err
	}
	// Both ends have one name, so the inner end must be made in its namespace.
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: spec.iface},
		PeerName:  spec.iface, PeerNamespace: netlink.NsFd(segment.handle),
		PeerHardwareAddr: spec.mac[:],
	}
	if err := m.ns.netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("making the veth pair: %w", err)
	}
	if err := errors.Join(v.outer.find(), v.inner.find()); err != nil {
		return err
	}
	if err := v.mark(m.owner); err != nil {
		return err
	}
	if _, err := v.ensureOuter(vnicSettings{}); err != nil {
		return err
	}
	everything := classicFilter{bpf.RetConstant{Val: wholeFrame}}
	v.packetSocket, err = openPacketSocket(m.ns, spec.iface, everything)
	return err
}

// mark names this process as the pair's owner.
func (v *veth) mark(owner ownership) error {
	link, err := v.outer.link()
	if err == nil {
		err = v.outer.ns.netlink.LinkSetAlias(link, ownerAlias+owner.token)
	}
	if err != nil {
		return fmt.Errorf("marking the outer end as ours: %w", err)
	}
	return nil
}

// ensureOuter keeps the outer end a port of the bridge and a dead end for the host. The end
// goes up last: before that, nothing comes out of it.
func (v *veth) ensureOuter(want vnicSettings) (changed bool, err error) {
	steps := []func(vnicSettings) (bool, error){v.outer.ensureName, v.outer.ensureSysctls, v.outer.ensureDeadEnd, v.outer.ensureUp}
	if want.mtu != 0 {
		steps = append(steps, v.outer.ensureMTU)
	}
	for _, ensure := range steps {
		differed, err := ensure(want)
		if err != nil {
			return changed, fmt.Errorf("the outer end of VNIC %s: %w", v.outer.spec.iface, err)
		}
		changed = changed || differed
	}
	return changed, nil
}

func (v *veth) index() int { return v.outer.ifindex }

func (v *veth) do(f func() error) error { return v.inner.do(f) }

func (v *veth) configure(want vnicSettings) (changed []string, err error) {
	differed, err := v.ensureOuter(want)
	if err != nil {
		return nil, err
	}
	if differed && v.inner.set.mtu == want.mtu {
		changed = append(changed, "outer end")
	}
	inner, err := v.inner.configure(want)
	return append(changed, inner...), err
}

// close removes the pair, and the namespace if it was made for it.
//
// If the pair is closed already, close does nothing: without the namespace, the clean-up
// would find the host's own rules.
func (v *veth) close() error {
	if v.closed {
		return nil
	}
	v.closed = true
	var errs []error
	if v.packetSocket != nil {
		errs = append(errs, v.packetSocket.close())
	}
	if v.inner.ns == nil {
		return errors.Join(errs...)
	}
	if v.inner.ifindex != 0 {
		errs = append(errs, v.inner.removeRule())
	}
	if link, err := v.outer.link(); v.outer.ifindex != 0 && err == nil {
		errs = append(errs, ignoreMissing(v.outer.ns.netlink.LinkDel(link)))
	}
	errs = append(errs, v.inner.ns.releaseNamed(v.inner.spec.netns))
	return errors.Join(errs...)
}

// removeStalePairs removes the veth pairs of processes that were killed.
func removeStalePairs(ns *namespace) error {
	links, err := retryDump(ns.netlink.LinkList)
	if err != nil {
		return fmt.Errorf("listing the devices: %w", err)
	}
	for _, l := range links {
		if !isStalePair(ns, l) {
			continue
		}
		if err := ignoreMissing(ns.netlink.LinkDel(l)); err != nil {
			return fmt.Errorf("removing the veth pair %s of an earlier run: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

func isStalePair(ns *namespace, l netlink.Link) bool {
	return l.Type() == "veth" && isStale(ns, l.Attrs().Alias, ownerAlias)
}
