package vnicbridge

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// devices are the living devices of a configuration, by the names in it.
type devices struct {
	segments map[string]*segment
	bridges  map[string]*bridge
}

func newDevices() devices {
	return devices{make(map[string]*segment), make(map[string]*bridge)}
}

// segment is a configured segment with its living VNIC.
type segment struct {
	spec  host.VNICSpec
	dev   host.VNIC
	iface *iface.Iface

	unhealthy bool // according to the rules in force

	// Of a remote segment's device.
	name string // now, because a device can be renamed
	down bool
}

// bridge is a configured bridge with its open NIC.
type bridge struct {
	spec  nicSpec
	dev   iface.NICDevice
	iface *iface.Iface
	links [config.Families]link.Link // nil if the bridge has no address of a family
	name  string                     // the NIC's name now, because a NIC can be renamed
	up    atomic.Bool

	failsOver atomic.Bool   // an elector says whether it has its addresses
	conflicts atomic.Uint64 // with another host that uses one of them

	upSince int64                 // of the plane's clock
	silent  [config.Families]bool // gateways that do not answer, as was told last
}

// eachLink yields the links of the families of which the bridge has an address.
func (b *bridge) eachLink() iter.Seq2[config.Family, link.Link] {
	return func(yield func(config.Family, link.Link) bool) {
		for f, l := range b.links {
			if l != nil && !yield(config.Family(f), l) {
				return
			}
		}
	}
}

// announce announces the pseudo addresses again.
func (b *bridge) announce() {
	for _, link := range b.eachLink() {
		link.Announce()
	}
}

func (b *bridge) setGateways(gateways [config.Families]netip.Addr) {
	for f, link := range b.eachLink() {
		link.SetGateway(gateways[f])
	}
}

// nicSpec identifies an open NIC: if any of it changes, the NIC is opened again.
type nicSpec struct {
	bridge, nic string
	addresses   [config.Families]netip.Prefix // the zero value if it has none of a family
	linkLocal   netip.Addr                    // of IPv6; invalid: one is derived
}

// identity is for a NIC what [host.VNICSpec.Identity] is for a VNIC.
func (s nicSpec) identity() string {
	return fmt.Sprint(s.bridge, " ", s.nic, " ", s.addresses, " ", s.linkLocal)
}

// living returns the devices of the configuration in force, and the retired ones.
func (p *Plane) living() []devices { return []devices{p.devices, p.retired} }

// ifaces returns the ifaces of all living devices.
func (p *Plane) ifaces() (ifaces []*iface.Iface) {
	for _, d := range p.living() {
		ifaces = append(ifaces, d.ifaces()...)
	}
	return ifaces
}

func (d devices) ifaces() (ifaces []*iface.Iface) {
	for _, b := range d.bridges {
		ifaces = append(ifaces, b.iface)
	}
	for _, s := range d.segments {
		ifaces = append(ifaces, s.iface)
	}
	return ifaces
}

// makeSegment makes a VNIC and its iface, or opens the device in its place.
func (p *Plane) makeSegment(spec host.VNICSpec) (*segment, error) {
	dev, err := p.session.machine.MakeVNIC(spec)
	if err != nil {
		return nil, err
	}
	ifc, err := p.newIface(spec.Iface, dev, spec.MAC, spec.Addresses[config.IPv6].IsValid())
	s := &segment{spec: spec, dev: dev, iface: ifc}
	if err == nil {
		for _, own := range ifc.Each() {
			own.VNIC = &iface.VNICSide{Segment: spec.Segment, Address: packet.AddrOf(spec.Addresses[own.Family].Addr()), Remote: spec.Remote}
		}
		if spec.Remote {
			p.attachServers(spec.Segment, ifc)
		}
		p.expect(segmentKey(spec.Segment), ifc)
		if err = s.adoptDevice(); err == nil {
			err = p.datapaths.attach(ifc)
		}
		if err != nil {
			p.freeNumbers(ifc)
		}
	}
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return s, nil
}

// openBridge opens a NIC and makes its iface, which its socket serves until it is attached.
func (p *Plane) openBridge(spec nicSpec, gateways [config.Families]netip.Addr) (*bridge, error) {
	dev, state, err := p.openNIC(spec)
	if err != nil {
		return nil, err
	}
	ifc, err := p.newIface(spec.nic, dev, state.MAC, spec.addresses[config.IPv6].IsValid())
	b := &bridge{spec: spec, dev: dev, iface: ifc, name: spec.nic}
	b.up.Store(state.Up)
	if err == nil {
		ifc.SetMTU(state.MTU)
		p.attachNIC(b, state.Permanent)
		b.setGateways(gateways)
		p.expect(bridgeKey(spec.bridge), ifc)
	}
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return b, nil
}

// openNIC opens a NIC and reads its state.
func (p *Plane) openNIC(spec nicSpec) (iface.NICDevice, iface.LinkState, error) {
	dev, err := p.session.machine.OpenNIC(spec.nic, spec.addresses)
	if err != nil {
		return nil, iface.LinkState{}, err
	}
	state, err := dev.Link()
	if err != nil {
		_ = dev.Close()
		return nil, iface.LinkState{}, err
	}
	return dev, state, nil
}

// newIface makes the iface of a device, and a second one if the device has an IPv6 address.
// The error says that all numbers are taken.
func (p *Plane) newIface(name string, dev iface.Device, mac config.MAC, v6 bool) (*iface.Iface, error) {
	ifc, err := p.numberedIface(name)
	if err == nil && v6 {
		if ifc.V6, err = p.numberedIface(name); err != nil {
			p.numbers.Free(ifc.Index)
		} else {
			ifc.V6.Family, ifc.V6.V4 = config.IPv6, ifc
		}
	}
	if err != nil {
		return nil, err
	}
	ifc.SetDevice(dev)
	ifc.SetMAC(mac)
	return ifc, nil
}

func (p *Plane) numberedIface(name string) (*iface.Iface, error) {
	index, ok := p.numbers.Take()
	if !ok {
		return nil, fmt.Errorf("device %s: there are too many devices: they have %d addresses already, which is the most", name, iface.Max-1)
	}
	return iface.New(index, name), nil
}

// freeNumbers makes the numbers of a device's ifaces available again.
func (p *Plane) freeNumbers(ifc *iface.Iface) {
	for _, own := range ifc.Each() {
		p.numbers.Free(own.Index)
	}
}

// attachNIC gives the ifaces of a NIC their links, on which the NIC answers for the pseudo
// addresses. permanent is the NIC's permanent MAC, or zero.
func (p *Plane) attachNIC(b *bridge, permanent config.MAC) {
	log := p.log.With("bridge", b.spec.bridge, "nic", b.spec.nic)
	for _, own := range b.iface.Each() {
		address := b.spec.addresses[own.Family]
		own.NIC = &iface.NICSide{Address: packet.AddrOf(address.Addr()), Network: address.Masked()}
		if !address.IsValid() {
			continue
		}
		l := link.New(own, link.Options{
			Bridge: b.spec.bridge, MAC: permanent, Key: [2]uint64{p.key.K0, p.key.K1}, LinkLocal: b.spec.linkLocal, Ours: p.isOurs, Log: log,
			Rival: func(address netip.Addr, mac config.MAC) { p.rival(b, address, mac) }, FailsOver: b.failsOver.Load,
		})
		n := l.Table()
		n.Learned = func(c link.MACChange) { p.neighbourLearned(log, c) }
		n.Publish = func(host packet.Addr, mac config.MAC, gateway bool) {
			own.Device().(iface.NICDevice).Know(host, mac, gateway)
			if k := p.datapaths.kernelPath(); k != nil {
				k.SetNeighbour(own, host, mac)
			}
		}
		if own.Family == config.IPv6 {
			n.Unreachable = func(f packet.Frame) { p.path.TellUnreachable(own, &f) }
		}
		n.SentByKernel = func(visit func(host packet.Addr, at int64)) {
			if k := p.datapaths.kernelPath(); k != nil {
				k.EachSentTo(own, visit)
			}
		}
		own.NIC.Link = l
		b.links[own.Family] = l
	}
}

// isOurs tells whether a MAC is that of a NIC in use.
func (p *Plane) isOurs(mac config.MAC) bool {
	return slices.ContainsFunc(p.path.CurrentRules().Nics, func(nic *iface.Iface) bool { return nic.MAC() == mac })
}

// closeIface closes an iface and its device, and ends the flows there. Both sides of a TCP
// connection get a RST.
func (p *Plane) closeIface(gone *iface.Iface) {
	all := gone.Each()
	for _, own := range all {
		own.Closed.Store(true)
		if link := own.Link(); link != nil {
			link.Close()
		}
	}
	p.health.Forget(gone)
	p.bans.leave(gone)
	p.path.End(func(f *flow.Flow) bool { return slices.Contains(all, f.In) || slices.Contains(all, f.Out) }, p.comesBack)
	p.datapaths.detach(gone)
	p.freeNumbers(gone)
	if err := gone.Device().Close(); err != nil {
		p.log.Error("closing a device", "device", gone.Name, "error", err)
	}
}

// retryInterval is how often a device that failed is tried again.
const retryInterval = time.Second

// carry runs the forwarder on an iface, in a goroutine, until the iface is closed or the
// session ends. If the device fails because somebody has deleted it, carry makes or opens it
// again (L3). The flows stay meanwhile.
func (p *Plane) carry(ifc *iface.Iface) {
	if p.awaits(ifc) {
		return // takeOver calls carry again
	}
	stop, carriers := p.session.stop, &p.session.carriers
	carriers.Add(1)
	p.session.running.Go(func() {
		defer carriers.Done()
		for {
			err := p.path.Run(ifc, ifc.Device())
			if ifc.Closed.Load() || p.yielded.Load() {
				return
			}
			p.log.Error("a device is lost: trying to get it back", "device", ifc.Name, "error", err)
			for err = p.recover(ifc); err != nil; err = p.recover(ifc) {
				p.log.Debug("a device is not back yet", "device", ifc.Name, "error", err)
				p.lose(ifc)
				select {
				case <-stop:
					return
				case <-time.After(retryInterval):
				}
			}
			if ifc.Closed.Load() || p.yielded.Load() {
				return
			}
			p.log.Info("the device is back", "device", ifc.Name)
		}
	})
}

// recover makes an iface's VNIC again, or opens its NIC again.
func (p *Plane) recover(ifc *iface.Iface) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ifc.Closed.Load() || p.yielded.Load() {
		return nil
	}
	p.arrangement.Add(1)
	p.datapaths.detach(ifc)
	defer p.keepNetns(ifc)()
	_ = ifc.Device().Close() // what is left of it
	var err error
	if ifc.NIC != nil {
		err = p.reopenNIC(ifc)
	} else {
		err = p.remakeVNIC(ifc)
	}
	if err == nil {
		err = p.datapaths.attach(ifc)
	}
	if err != nil {
		return err
	}
	if err := p.session.machine.Guard(p.guards(p.devices, p.retired)); err != nil {
		return err
	}
	return p.setLost(ifc, "")
}

// keepNetns keeps the network namespace of a segment until release is called.
func (p *Plane) keepNetns(ifc *iface.Iface) (release func()) {
	for _, s := range p.segments {
		if s.iface == ifc {
			kept := p.session.machine.KeepNetns(s.spec.Netns)
			return func() { _ = kept() } // a name that stays harms nothing
		}
	}
	return func() {}
}

func (p *Plane) reopenNIC(ifc *iface.Iface) error {
	for _, d := range p.living() {
		for _, b := range d.bridges {
			if b.iface != ifc {
				continue
			}
			dev, state, err := p.openNIC(b.spec)
			if err != nil {
				return err
			}
			b.dev, b.name = dev, b.spec.nic
			b.up.Store(state.Up)
			ifc.SetDevice(dev)
			for _, link := range b.eachLink() {
				link.TellAll()
			}
			ifc.SetMAC(state.MAC)
			ifc.SetMTU(state.MTU)
			b.announce()
			p.remind()
			return nil
		}
	}
	return errNotPlaced
}

func (p *Plane) remakeVNIC(ifc *iface.Iface) error {
	for name, s := range p.segments {
		if s.iface != ifc {
			continue
		}
		dev, err := p.session.machine.MakeVNIC(s.spec)
		if err != nil {
			return err
		}
		s.dev = dev
		ifc.SetDevice(dev)
		if err := s.adoptDevice(); err != nil {
			return err
		}
		s.announce()
		_, err = dev.Configure(p.settingsOf(p.cfg, name, p.bridges))
		if small := (*host.SmallMTUError)(nil); errors.As(err, &small) {
			return nil // the segment keeps its IPv4, and configureVNICs reports the error
		}
		return err
	}
	return errNotPlaced
}

var errNotPlaced = errors.New("no configuration has the device")
