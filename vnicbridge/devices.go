package vnicbridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
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
	spec vnicSpec
	dev  vnicDevice
	port *port

	unhealthy bool // as far as the rules in force know
}

// bridge is a configured bridge with its open NIC.
type bridge struct {
	spec nicSpec
	dev  nicDevice
	port *port
	link *ethernet // of the port
	name string    // of the NIC now: it can be renamed
	up   bool
}

// nicSpec is what makes one open NIC different from another.
type nicSpec struct {
	bridge, nic string
	address     netip.Prefix
}

// living are the devices of the configuration in force, and the retired ones.
func (p *Plane) living() []devices { return []devices{p.devices, p.retired} }

// ports are those of all living devices.
func (p *Plane) ports() (ports []*port) {
	for _, d := range p.living() {
		ports = append(ports, d.ports()...)
	}
	return ports
}

func (d devices) ports() (ports []*port) {
	for _, b := range d.bridges {
		ports = append(ports, b.port)
	}
	for _, s := range d.segments {
		ports = append(ports, s.port)
	}
	return ports
}

// makeSegment makes a VNIC and its port.
func (p *Plane) makeSegment(spec vnicSpec) (*segment, error) {
	dev, err := p.session.machine.makeVNIC(spec)
	if err != nil {
		return nil, err
	}
	port, err := p.newPort(spec.iface, dev, spec.mac)
	if err == nil {
		port.vnic = &vnicSide{segment: spec.segment, address: addrOf(spec.address.Addr())}
		err = p.datapaths.attach(port)
	}
	if err != nil {
		return nil, errors.Join(err, dev.close())
	}
	return &segment{spec: spec, dev: dev, port: port}, nil
}

// openBridge opens a NIC and makes its port.
func (p *Plane) openBridge(spec nicSpec, gateway netip.Addr) (*bridge, error) {
	dev, state, err := p.openNIC(spec)
	if err != nil {
		return nil, err
	}
	port, err := p.newPort(spec.nic, dev, state.mac)
	var link *ethernet
	if err == nil {
		port.mtu.Store(int32(state.mtu))
		link = p.attachNIC(port, spec)
		link.setGateway(gateway)
		err = p.datapaths.attach(port)
	}
	if err != nil {
		return nil, errors.Join(err, dev.close())
	}
	return &bridge{spec: spec, dev: dev, port: port, link: link, name: spec.nic, up: state.up}, nil
}

// openNIC opens a NIC and reads its state.
func (p *Plane) openNIC(spec nicSpec) (nicDevice, linkState, error) {
	dev, err := p.session.machine.openNIC(spec.nic, spec.address.Addr())
	if err != nil {
		return nil, linkState{}, err
	}
	state, err := dev.link()
	if err != nil {
		_ = dev.close()
		return nil, linkState{}, err
	}
	return dev, state, nil
}

// newPort gives a device its place.
func (p *Plane) newPort(name string, dev device, mac MAC) (*port, error) {
	index, ok := p.numbers.take()
	if !ok {
		return nil, fmt.Errorf("device %s: there are %d devices already, which is the most", name, maxPorts-1)
	}
	port := newPort(index, name)
	port.setDevice(dev)
	port.setMAC(mac)
	return port, nil
}

// attachNIC gives a port the link on which its NIC speaks for the pseudo address.
func (p *Plane) attachNIC(port *port, spec nicSpec) *ethernet {
	log := p.log.With("bridge", spec.bridge, "nic", spec.nic)
	port.nic = &nicSide{address: addrOf(spec.address.Addr()), network: spec.address.Masked()}
	link := newEthernet(port, p.isOurs, log)
	link.learned = func(c macChange) { p.neighbourLearned(log, c) }
	link.publish = func(host addr, mac MAC, gateway bool) {
		port.device().(nicDevice).know(host, mac, gateway)
		if k := p.datapaths.kernelPath(); k != nil {
			k.setNeighbour(port, host, mac)
		}
	}
	link.sentByKernel = func(visit func(host addr, at int64)) {
		if k := p.datapaths.kernelPath(); k != nil {
			k.eachSentTo(port, visit)
		}
	}
	port.nic.link = link
	return link
}

// isOurs tells whether a MAC is that of a NIC in use.
func (p *Plane) isOurs(mac MAC) bool {
	return slices.ContainsFunc(p.path.currentRules().nics, func(nic *port) bool { return nic.mac() == mac })
}

// closePort ends a device and the flows by it, of which both sides are told.
func (p *Plane) closePort(gone *port) {
	gone.closed.Store(true)
	p.health.forget(gone)
	p.path.end(func(f *flow) bool { return f.in == gone || f.out == gone }, p.comesBack)
	p.datapaths.detach(gone)
	p.numbers.free(gone.index)
	if err := gone.device().close(); err != nil {
		p.log.Error("closing a device", "device", gone.name, "error", err)
	}
}

// retryInterval is how often a device that failed is tried again.
const retryInterval = time.Second

// carry runs the data path on a port for as long as the port is wanted. A device
// that fails, because somebody deleted it, is made or opened again (L3); the
// flows wait.
func (p *Plane) carry(port *port) {
	stop := p.session.stop
	p.session.running.Go(func() {
		for {
			err := p.path.run(port, port.device())
			if port.closed.Load() {
				return
			}
			p.log.Error("a device is lost: trying to get it back", "device", port.name, "error", err)
			for err = p.recover(port); err != nil; err = p.recover(port) {
				p.log.Debug("a device is not back yet", "device", port.name, "error", err)
				p.lose(port)
				select {
				case <-stop:
					return
				case <-time.After(retryInterval):
				}
			}
			if port.closed.Load() {
				return
			}
			p.log.Info("the device is back", "device", port.name)
		}
	})
}

// recover makes or opens a port's device again.
func (p *Plane) recover(port *port) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port.closed.Load() {
		return nil
	}
	p.datapaths.detach(port)
	_ = port.device().close() // what is left of it
	var err error
	if port.nic != nil {
		err = p.reopenNIC(port)
	} else {
		err = p.remakeVNIC(port)
	}
	if err == nil {
		err = p.datapaths.attach(port)
	}
	if err != nil {
		return err
	}
	if err := p.session.machine.guard(p.guards(p.devices, p.retired)); err != nil {
		return err
	}
	return p.setLost(port, false)
}

func (p *Plane) reopenNIC(port *port) error {
	for _, d := range p.living() {
		for _, b := range d.bridges {
			if b.port != port {
				continue
			}
			dev, state, err := p.openNIC(b.spec)
			if err != nil {
				return err
			}
			b.dev, b.name, b.up = dev, b.spec.nic, state.up
			port.setDevice(dev)
			b.link.tellAll()
			port.setMAC(state.mac)
			port.mtu.Store(int32(state.mtu))
			b.link.claim.announce()
			p.remind()
			return nil
		}
	}
	return errNotPlaced
}

func (p *Plane) remakeVNIC(port *port) error {
	for name, s := range p.segments {
		if s.port != port {
			continue
		}
		dev, err := p.session.machine.makeVNIC(s.spec)
		if err != nil {
			return err
		}
		s.dev = dev
		port.setDevice(dev)
		_, err = dev.configure(settingsOf(p.cfg, name, p.bridges))
		return err
	}
	return errNotPlaced
}

var errNotPlaced = errors.New("no configuration has the device")
