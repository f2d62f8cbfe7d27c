package vnicbridge

import "fmt"

// fastPath is the kernel data path: programs on the devices carry there what the
// forwarder would carry, and leave to it what needs thought. Both use the same
// rules and the same flows.
type fastPath interface {
	// store holds the flows where both find them, and gauges are a port's.
	store() flowStore
	gauges(*port) *gauges
	// fits tells whether there is room for a number of flows.
	fits(maxFlows int) bool

	// attach puts a program on a port's device, and detach takes it away.
	attach(*port) error
	detach(*port)
	// awake lets the programs work. Until then they leave everything alone.
	awake() error
	// drain makes them leave everything to the forwarder, and asleep makes them
	// leave everything alone again, which it then hears of by itself.
	drain()
	asleep()
	close()

	// setRules replaces the rules for new flows. refreshPorts takes in that listeners
	// opened or closed ports.
	setRules(*ruleset)
	refreshPorts()
	// setNeighbour tells the MAC of a host on a NIC's link. A zero one: it is no
	// longer known. eachSentTo visits those to which the programs have sent packets,
	// with the time of the last one.
	setNeighbour(nic *port, host addr, mac MAC)
	eachSentTo(nic *port, visit func(host addr, at int64))

	// tick does what time asks for.
	tick(now int64)
	// counters are what the programs counted at a port.
	counters(*port) counterValues
}

// fastPath is the one in use, or nil.
func (p *Plane) fastPath() fastPath {
	if f := p.fast.Load(); f != nil {
		return *f
	}
	return nil
}

// withFastPath calls a function with the one in use, if there is one, and keeps it
// from being closed meanwhile. It is for what happens at any time; reloads take
// turns anyway, and packets are not carried while the data path changes.
func (p *Plane) withFastPath(do func(fastPath)) {
	p.path.moving.RLock()
	defer p.path.moving.RUnlock()
	if f := p.fastPath(); f != nil {
		do(f)
	}
}

// selectDatapath makes the data path the one that a configuration asks for. Living
// flows go along.
func (p *Plane) selectDatapath(cfg *Config) error {
	current := p.fastPath()
	switch {
	case cfg.Datapath == DatapathUserspace:
		p.slowReason = ""
		return p.switchTo(nil, cfg.maxFlows())
	case current != nil && current.fits(cfg.maxFlows()):
		return nil
	}
	next, err := p.session.machine.newFastPath(p.path, cfg.maxFlows(), p.key, p.log)
	if err == nil {
		if err = p.switchTo(next, cfg.maxFlows()); err != nil {
			next.close()
		}
	}
	if err != nil {
		return p.withoutFastPath(cfg, err)
	}
	p.slowReason = ""
	return nil
}

// withoutFastPath goes on in userspace, if the configuration allows it.
func (p *Plane) withoutFastPath(cfg *Config, reason error) error {
	if cfg.Datapath == DatapathKernel {
		return &ConfigError{Err: fmt.Errorf("datapath kernel: %w (datapath auto goes on without it)", reason)}
	}
	p.slowReason = reason.Error()
	return p.switchTo(nil, cfg.maxFlows())
}

// datapathState is which data path carries, and why it is userspace if nobody
// asked for that.
type datapathState struct {
	datapath Datapath
	reason   string
}

func (p *Plane) datapath() datapathState {
	if p.fastPath() != nil {
		return datapathState{datapath: DatapathKernel}
	}
	return datapathState{DatapathUserspace, p.slowReason}
}

// reportDatapath logs which data path carries, when that has changed.
func (p *Plane) reportDatapath() {
	now := p.datapath()
	if now == p.reported {
		return
	}
	p.reported = now
	if now.reason != "" {
		p.log.Warn("packets are carried in userspace: the kernel data path cannot be used", "datapath", now.datapath, "reason", now.reason)
		return
	}
	p.log.Info("packets are carried", "datapath", now.datapath)
}

// attachError says why no program could be put on a device.
type attachError struct{ error }

func (e *attachError) Unwrap() error { return e.error }

// switchTo moves the living flows to another data path, nil being userspace, and
// lets that carry from now on.
func (p *Plane) switchTo(next fastPath, maxFlows int) error {
	current := p.fastPath()
	if next == nil && current == nil {
		return nil
	}
	store, gaugesOf := flowStore(newFlowTable(maxFlows, p.path.handshakes)), func(*port) *gauges { return new(gauges) }
	if next != nil {
		if err := p.introduce(next); err != nil {
			return err
		}
		store, gaugesOf = next.store(), next.gauges
	}
	if current != nil {
		current.drain()
	}
	var err error
	lost := p.path.move(store, func() {
		for _, d := range p.living() {
			for _, port := range d.ports() {
				g := gaugesOf(port)
				g.turn.Store(port.gauges().turn.Load())
				port.gauge.Store(g)
			}
		}
	}, func() {
		if current != nil {
			current.asleep()
		}
		if next != nil {
			p.fast.Store(&next)
			for _, nic := range p.path.currentRules().nics {
				nic.nic.link.tellAll()
			}
			err = next.awake()
		} else {
			p.fast.Store(nil)
		}
	})
	if lost > 0 {
		p.log.Warn("flows ended because the new flow table has no room for them", "flows", lost)
	}
	if current != nil {
		current.close()
	}
	return err
}

// introduce puts a data path in place beside the one that carries.
func (p *Plane) introduce(next fastPath) error {
	for _, d := range p.living() {
		for _, port := range d.ports() {
			if err := next.attach(port); err != nil {
				return err
			}
		}
	}
	next.setRules(p.path.currentRules())
	return nil
}

// attach lets the data path in use carry what comes in at a new port.
func (p *Plane) attach(port *port) error {
	f := p.fastPath()
	if f == nil {
		return nil
	}
	if err := f.attach(port); err != nil {
		return &attachError{err}
	}
	port.gauge.Store(f.gauges(port))
	return nil
}

func (p *Plane) detach(port *port) {
	if f := p.fastPath(); f != nil {
		f.detach(port)
	}
}

// setRules puts rules in force for new flows.
func (p *Plane) setRules(r *ruleset) {
	p.path.setRules(r)
	if f := p.fastPath(); f != nil {
		f.setRules(r)
	}
}
