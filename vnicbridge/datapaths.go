package vnicbridge

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

// kernelPath is the kernel data path: programs on the devices carry what the forwarder
// would carry, and leave the rest to the forwarder. Both use the same rules and the same
// flows.
type kernelPath interface {
	// flowTable holds the flows where both find them.
	flowTable() *flowTable
	// fits tells whether there is room for a number of flows.
	fits(maxFlows int) bool

	// attach puts a program on a port's device, and detach takes it away.
	attach(*port) error
	detach(*port)
	// awake lets the programs work. Until then they leave everything alone.
	awake() error
	// drain makes them leave everything to the forwarder. asleep makes them leave
	// everything alone again; the forwarder then hears of frames by itself.
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

// dataPaths are the two ways of packets: the forwarder, which always runs, and the kernel
// path, if one is in use. dataPaths knows which one carries and why, and moves the flows
// when that changes.
//
// Whoever changes the data path, attaches a port or detaches it holds the plane's lock.
// While flows move, the forwarder carries nothing. [dataPaths.withKernelPath] keeps a
// kernel path from being closed for those who do not hold the plane's lock.
type dataPaths struct {
	forwarder *forwarder
	log       *slog.Logger
	kernel    atomic.Pointer[kernelPath] // nil: userspace carries

	// The plane's lock guards these.
	refusal  string        // why userspace carries, if the configuration does not ask for userspace
	reported datapathState // in the log
}

// kernelPath is the kernel path in use, or nil.
func (d *dataPaths) kernelPath() kernelPath {
	if k := d.kernel.Load(); k != nil {
		return *k
	}
	return nil
}

// withKernelPath calls a function with the kernel path in use, if any, and prevents its
// closing until the function returns.
func (d *dataPaths) withKernelPath(do func(kernelPath)) {
	d.forwarder.holdFlows(func() {
		if k := d.kernelPath(); k != nil {
			do(k)
		}
	})
}

// choose makes the data path the one that a configuration asks for. Living flows go along.
// ports are all that there are, and newKernelPath makes a kernel path.
func (d *dataPaths) choose(cfg *Config, ports []*port, newKernelPath func(maxFlows int) (kernelPath, error)) error {
	current := d.kernelPath()
	switch {
	case cfg.Datapath == DatapathUserspace:
		d.refusal = ""
		return d.switchTo(nil, cfg.maxFlows(), ports)
	case current != nil && current.fits(cfg.maxFlows()):
		return nil
	}
	next, err := newKernelPath(cfg.maxFlows())
	if err == nil {
		if err = d.switchTo(next, cfg.maxFlows(), ports); err != nil {
			next.close()
		}
	}
	if err != nil {
		return d.fallBack(cfg, ports, err)
	}
	d.refusal = ""
	return nil
}

// fallBack goes on in userspace, if the configuration allows it.
func (d *dataPaths) fallBack(cfg *Config, ports []*port, reason error) error {
	if cfg.Datapath == DatapathKernel {
		return &ConfigError{Err: fmt.Errorf("datapath kernel: %w (datapath auto goes on without it)", reason)}
	}
	d.refusal = reason.Error()
	return d.switchTo(nil, cfg.maxFlows(), ports)
}

// end ends the kernel path, if one is in use. If the plane begins again, report logs the data
// path anew.
func (d *dataPaths) end(ports []*port) {
	if err := d.switchTo(nil, DefaultMaxFlows, ports); err != nil {
		d.log.Error("ending the kernel data path", "error", err)
	}
	d.reported = datapathState{}
}

// datapathState is which data path carries, and why it is userspace if nobody
// asked for that.
type datapathState struct {
	datapath Datapath
	reason   string
}

func (d *dataPaths) state() datapathState {
	if d.kernelPath() != nil {
		return datapathState{datapath: DatapathKernel}
	}
	return datapathState{DatapathUserspace, d.refusal}
}

// report logs which data path carries, when that has changed.
func (d *dataPaths) report() {
	now := d.state()
	if now == d.reported {
		return
	}
	d.reported = now
	if now.reason != "" {
		d.log.Warn("packets are carried in userspace: the kernel data path cannot be used", "datapath", now.datapath, "reason", now.reason)
		return
	}
	d.log.Info("packets are carried", "datapath", now.datapath)
}

// switchTo moves the living flows to another data path, nil being userspace, and
// lets that carry from now on.
func (d *dataPaths) switchTo(next kernelPath, maxFlows int, ports []*port) error {
	current := d.kernelPath()
	if next == nil && current == nil && d.forwarder.fits(maxFlows) {
		return nil
	}
	var table *flowTable
	if next == nil {
		table = ownTable(maxFlows, d.forwarder.handshakes)
	} else if err := d.introduce(next, ports); err != nil {
		return err
	} else {
		table = next.flowTable()
	}
	if current != nil {
		current.drain()
	}
	var err error
	lost := d.forwarder.move(table, func() {
		for _, port := range ports {
			table.know(port)
			g := table.gauges(port)
			g.turn.Store(port.gauges().turn.Load())
			port.gauge.Store(g)
		}
	}, func() {
		if current != nil {
			current.asleep()
		}
		if next != nil {
			d.kernel.Store(&next)
			for _, nic := range d.forwarder.currentRules().nics {
				nic.nic.link.tellAll()
			}
			err = next.awake()
		} else {
			d.kernel.Store(nil)
		}
	})
	if lost > 0 {
		d.log.Warn("flows ended because the new flow table has no room for them", "flows", lost)
	}
	if current != nil {
		current.close()
	}
	return err
}

// introduce puts a kernel path in place beside the data path that carries.
func (d *dataPaths) introduce(next kernelPath, ports []*port) error {
	for _, port := range ports {
		if err := next.attach(port); err != nil {
			return err
		}
	}
	next.setRules(d.forwarder.currentRules())
	return nil
}

// attachError says why no program could be put on a device.
type attachError struct{ error }

func (e *attachError) Unwrap() error { return e.error }

// attach lets the data path in use carry what comes in at a new port. If the kernel path
// cannot, the error is an [*attachError].
func (d *dataPaths) attach(port *port) error {
	if k := d.kernelPath(); k != nil {
		if err := k.attach(port); err != nil {
			return &attachError{err}
		}
	}
	d.forwarder.know(port)
	return nil
}

func (d *dataPaths) detach(port *port) {
	if k := d.kernelPath(); k != nil {
		k.detach(port)
	}
	if port.closed.Load() {
		d.forwarder.forget(port)
	}
}

// setRules puts rules in force for new flows.
func (d *dataPaths) setRules(r *ruleset) {
	d.forwarder.setRules(r)
	if k := d.kernelPath(); k != nil {
		k.setRules(r)
	}
}
