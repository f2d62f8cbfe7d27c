package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Veth is the VNIC of a segment with a namespace of its own: the inner end of a veth pair.
// The outer end has the same name, and the bridge sends and receives there. A TAP would not
// do, because it has no second end for another namespace.
type Veth struct {
	*PacketSocket           // the outer end
	inner         VNICSetup // in the segment's namespace
	outer         VNICSetup // in the host's
	closed        bool
	shared        *atomic.Bool // as that of a TAP
	hasXDP        atomic.Bool  // the segment has an XDP program on the inner end
}

// ownerAlias begins the link alias that names a device's owner, because a veth pair outlives
// the process that made it. The process's token follows.
const ownerAlias = "caddy-vnic "

func (m *Machine) makeVeth(spec VNICSpec) (VNIC, error) {
	outer := spec
	outer.Addresses = [config.Families]netip.Prefix{}
	v := &Veth{outer: VNICSetup{NS: m.NS, Spec: outer, sysctls: outerSysctls}}
	if err := v.make(m, spec); err != nil {
		return nil, errors.Join(fmt.Errorf("VNIC %s in netns %s: %w", spec.Iface, spec.Netns, err), v.Close())
	}
	m.Own.Store(v.outer.Ifindex, nil)
	return v, nil
}

func (v *Veth) make(m *Machine, spec VNICSpec) error {
	segment, err := namedNamespace(spec.Netns)
	if err != nil {
		return err
	}
	v.inner = VNICSetup{NS: segment, Spec: spec, sysctls: VNICSysctls(spec.has(config.IPv6))}
	if err := removeStaleRules(segment); err != nil {
		return err
	}
	inherited := m.inherited.Take(packetFile(spec.Iface))
	if inherited != nil {
		v.shared = &m.shared
	} else if err := v.addPair(); err != nil {
		return err
	}
	if err := errors.Join(v.outer.find(), v.inner.find()); err != nil {
		return err
	}
	mark := func() error { return v.mark(m.owner) }
	if inherited != nil {
		m.confirmed = append(m.confirmed, mark)
	} else if err := mark(); err != nil {
		return err
	} else if _, err := v.ensureOuter(VNICSettings{}); err != nil {
		return err
	}
	everything := ClassicFilter{bpf.RetConstant{Val: wholeFrame}}
	v.PacketSocket, err = openPacketSocket(m.NS, spec.Iface, everything, inherited)
	return err
}

// addPair makes the pair.
func (v *Veth) addPair() error {
	spec := v.inner.Spec
	// Both ends have one name, so the inner end must be made in its namespace.
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: spec.Iface},
		PeerName:  spec.Iface, PeerNamespace: netlink.NsFd(v.inner.NS.handle),
		PeerHardwareAddr: spec.MAC[:],
	}
	if err := v.outer.NS.Netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("making the veth pair: %w", err)
	}
	return nil
}

// mark names this process as the pair's owner.
func (v *Veth) mark(owner ownership) error {
	link, err := v.outer.Link()
	if err == nil {
		err = v.outer.NS.Netlink.LinkSetAlias(link, ownerAlias+owner.token)
	}
	if err != nil {
		return fmt.Errorf("marking the outer end as ours: %w", err)
	}
	return nil
}

// ensureOuter keeps the outer end up, and a dead end for the host. The end goes up last, so
// that no frame comes out of it before it is a dead end.
func (v *Veth) ensureOuter(want VNICSettings) (changed bool, err error) {
	steps := []func(VNICSettings) (bool, error){v.outer.ensureName, v.outer.ensureSysctls, v.outer.ensureDeadEnd, v.outer.ensureUp}
	if want.MTU != 0 { // before the sysctls: an MTU below IPv6's least resets those of IPv6
		steps = slices.Insert(steps, 1, v.outer.ensureMTU)
	}
	for _, ensure := range steps {
		differed, err := ensure(want)
		if err != nil {
			return changed, fmt.Errorf("the outer end of VNIC %s: %w", v.outer.Spec.Iface, err)
		}
		changed = changed || differed
	}
	return changed, nil
}

// Index returns the number of the outer end in the kernel.
func (v *Veth) Index() int { return v.outer.Ifindex }

// Do runs a function on a thread in the segment's namespace.
func (v *Veth) Do(f func() error) error { return v.inner.Do(f) }

// Configure makes both ends as they should be, and names what somebody else had changed.
func (v *Veth) Configure(want VNICSettings) (changed []string, err error) {
	differed, err := v.ensureOuter(want)
	if err != nil {
		return nil, err
	}
	if differed && v.inner.set.MTU == want.MTU {
		changed = append(changed, "outer end")
	}
	inner, err := v.inner.Configure(want)
	if link, gone := v.inner.Link(); gone == nil {
		xdp := link.Attrs().Xdp
		v.hasXDP.Store(xdp != nil && xdp.Attached)
	}
	return append(changed, inner...), err
}

// Enterable tells whether frames may come in at the inner end without leaving by the outer
// one: bpf_redirect_peer would pass by a segment's XDP program.
func (v *Veth) Enterable() bool { return !v.hasXDP.Load() }

// InnerEnd returns the inner end: its namespace, and its number there.
func (v *Veth) InnerEnd() (*Namespace, int) { return v.inner.NS, v.inner.Ifindex }

// Close removes the pair, and the namespace if this program made it. A second call does
// nothing: without the namespace, the clean-up would find the host's own rules.
func (v *Veth) Close() error {
	if v.closed {
		return nil
	}
	v.closed = true
	var errs []error
	if v.PacketSocket != nil {
		errs = append(errs, v.PacketSocket.Close())
	}
	if v.inner.NS == nil || v.shared != nil && v.shared.Load() {
		return errors.Join(errs...)
	}
	if v.inner.Ifindex != 0 {
		errs = append(errs, v.inner.removeRules())
	}
	if link, err := v.outer.Link(); v.outer.Ifindex != 0 && err == nil {
		errs = append(errs, ignoreMissing(v.outer.NS.Netlink.LinkDel(link)))
	}
	errs = append(errs, v.inner.NS.releaseNamed(v.inner.Spec.Netns))
	return errors.Join(errs...)
}

// removeStalePairs removes the veth pairs of processes that were killed.
func removeStalePairs(ns *Namespace) error {
	links, err := RetryDump(ns.Netlink.LinkList)
	if err != nil {
		return fmt.Errorf("listing the devices: %w", err)
	}
	for _, l := range links {
		if !isStalePair(ns, l) {
			continue
		}
		if err := ignoreMissing(ns.Netlink.LinkDel(l)); err != nil {
			return fmt.Errorf("removing the veth pair %s of an earlier run: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

func isStalePair(ns *Namespace, l netlink.Link) bool {
	return l.Type() == "veth" && isStale(ns, l.Attrs().Alias, ownerAlias)
}
