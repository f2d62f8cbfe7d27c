package vnicbridge

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// heir is what a plane that takes over from a predecessor knows until [Plane.Confirm]. Its first
// Apply prepares all devices beside the predecessor, which still carries. Then the predecessor
// yields, and this plane goes on with its flows.
type heir struct {
	from      Predecessor
	inventory Inventory
	ports     []func()                // release the ports that the predecessor's listeners had open
	waiting   map[*iface.Iface]string // the devices that the predecessor still has, with their names
}

// inherit takes the inventory, if there is a predecessor.
func (p *Plane) inherit(m machine) error {
	from, err := p.predecessor()
	if err != nil || from == nil {
		return err
	}
	h := &heir{from: from, waiting: make(map[*iface.Iface]string)}
	if h.inventory, err = from.Inventory(); err != nil {
		return fmt.Errorf("taking over from the process before: %w", err)
	}
	m.Inherit(h.inventory.Files)
	for segment, ports := range h.inventory.Ports {
		for _, port := range ports {
			h.ports = append(h.ports, p.open.Open(segment, port))
		}
	}
	p.started = time.Now().Add(-time.Duration(h.inventory.Now))
	p.heir = h
	p.datapaths.waits = true
	return nil
}

// inherited returns the name of a device if the predecessor has it.
func (p *Plane) inherited(key string) (has bool) {
	if p.heir != nil {
		_, has = p.heir.inventory.Devices[key]
	}
	return has
}

// expect records that the predecessor has the device of a new iface.
func (p *Plane) expect(key string, ifc *iface.Iface) {
	if p.inherited(key) {
		p.heir.waiting[ifc] = key
	}
}

// awaits tells whether the predecessor still carries what comes in at an iface.
func (p *Plane) awaits(ifc *iface.Iface) (waits bool) {
	if p.heir != nil {
		_, waits = p.heir.waiting[ifc]
	}
	return waits
}

// releaseChanged makes the predecessor give up the devices that the configuration changes. The error
// says that it cannot.
func (p *Plane) releaseChanged(cfg *config.Config) error {
	if p.heir == nil || p.heir.inventory.Devices == nil {
		return nil
	}
	wanted := make(map[string]string)
	for name := range cfg.Segments {
		wanted[segmentKey(name)] = p.vnicSpecOf(cfg, name).Identity()
	}
	for name := range cfg.Bridges {
		wanted[bridgeKey(name)] = nicSpecOf(cfg, name).identity()
	}
	for _, key := range config.SortedKeys(p.heir.inventory.Devices) {
		device := p.heir.inventory.Devices[key]
		if wanted[key] == device.Identity || wanted[key] == "" && !p.heir.inventory.Ended {
			continue
		}
		if err := p.heir.from.Release(key); err != nil {
			part, name, _ := strings.Cut(key, " ")
			return &config.Error{Part: part, Name: name, Err: err}
		}
		p.log.Info("a device is made anew, because the configuration has another one in its place, or none", "of", key)
	}
	return nil
}

// takeOver makes the predecessor yield, and goes on with what it knew.
func (p *Plane) takeOver(cfg *config.Config) error {
	unable := p.heir.inventory.Datapath == config.DatapathKernel && p.datapaths.kernelPath() == nil && cfg.Datapath != config.DatapathUserspace
	if unable && !p.heir.inventory.Ended {
		return fmt.Errorf("the process before carries packets in the kernel, and this one cannot: %s", p.datapaths.refusal)
	}
	began := time.Now()
	state, err := p.heir.from.Yield()
	if err != nil {
		return fmt.Errorf("taking over from the process before: %w", err)
	}
	if err := p.restore(state); err != nil {
		return errors.Join(fmt.Errorf("taking over what the process before knew: %w", err), state.Files.Close())
	}
	if err := p.wake(); err != nil {
		return err
	}
	p.readOn()
	waiting := p.heir.waiting
	p.heir.waiting = nil
	for ifc := range waiting {
		p.carry(ifc)
	}
	p.log.Info("took over from the process before", "flows", p.path.FlowCount(), "packets_waited", time.Since(began))
	p.remind() // to configure the VNICs
	return state.Files.Close()
}

// restore puts in force what the predecessor knew.
func (p *Plane) restore(s State) error {
	numbers := make(map[uint32]*iface.Iface)
	for ifc, key := range p.heir.waiting {
		for _, own := range ifc.Each() {
			before, ok := s.Ifaces[familyKey(key, own.Family)]
			if !ok {
				continue
			}
			numbers[before.Number] = own
			own.Counters.Add(before.Counters)
			own.Gauges().Turn.Store(before.Turn)
		}
	}
	for name, b := range p.bridges {
		for f, l := range b.eachLink() {
			if saved, ok := s.Links[familyKey(bridgeKey(name), f)]; ok {
				if err := l.Inherit(saved); err != nil {
					return err
				}
			}
		}
	}
	for name, segment := range p.segments {
		for f, server := range segment.servers() {
			server.Inherit(s.Links[familyKey(segmentKey(name), f)])
		}
	}
	p.restoreRoles(s.Roles)
	if err := p.restoreFlows(s, numbers); err != nil {
		return err
	}
	for name, n := range s.Refused {
		if segment := p.segments[name]; segment != nil {
			p.path.AddRefused(segment.iface, n)
		}
	}
	maps.Copy(p.states, s.States)
	maps.Copy(p.weights, s.Weights)
	maps.Copy(p.switches, s.Switches)
	p.overrides.forget([]*config.Config{p.cfg})
	if err := p.bans.restore(s.Bans); err != nil {
		return err
	}
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err == nil {
		p.datapaths.setRules(rules)
	}
	return err
}

func (p *Plane) restoreFlows(s State, numbers map[uint32]*iface.Iface) error {
	if s.Format != flow.SavedFormat {
		return fmt.Errorf("its flows have the format %d, and this process reads %d", s.Format, flow.SavedFormat)
	}
	saved, err := io.ReadAll(s.Files[flowsFile])
	if err != nil {
		return err
	}
	p.path.InheritLabels(s.Rules)
	if lost := p.path.Adopt(flow.SavedFrom(saved), numbers); lost > 0 {
		p.log.Warn("flows ended because a successor has no room for them, or no longer their segment", "flows", lost)
	}
	return nil
}

// heritable is a device whose sockets were a predecessor's.
type heritable interface {
	// Start lets in what the device's own filter says.
	Start() error
	// Listen starts or stops receiving frames.
	Listen(on bool) error
}

// wake makes the data path carry what comes in at the devices of the predecessor.
func (p *Plane) wake() error {
	k := p.datapaths.kernelPath()
	for ifc := range p.heir.waiting {
		d, ok := ifc.Device().(heritable)
		if !ok {
			continue
		}
		err := d.Start()
		if err == nil && k == nil {
			err = d.Listen(true)
		}
		if err != nil {
			return err
		}
	}
	p.datapaths.waits = false
	if k != nil {
		return k.Awake()
	}
	return nil
}

// Confirm tells the plane that the process has taken over for good. Until then, closing the plane
// leaves everything to its predecessor. Without a predecessor it does nothing.
func (p *Plane) Confirm() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heir == nil {
		return nil
	}
	for _, release := range p.heir.ports {
		release()
	}
	p.heir, p.predecessor = nil, noPredecessor
	return p.session.machine.Confirm()
}

func noPredecessor() (Predecessor, error) { return nil, nil }
