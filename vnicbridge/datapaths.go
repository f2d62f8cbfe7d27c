package vnicbridge

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// kernelPath is the kernel data path: programs on the devices carry what the forwarder
// would carry, and leave the rest to the forwarder. Both use the same rules and the same
// flows.
type kernelPath interface {
	// FlowTable is the table that both use.
	FlowTable() *flow.Table
	// Fits tells whether there is room for a number of flows, also of IPv6 if wide is set.
	Fits(maxFlows int, extras flow.Extras) bool

	// Attach puts a program on a device, given by its iface for IPv4, and Detach removes it.
	Attach(*iface.Iface) error
	Detach(*iface.Iface)
	// Awake makes the programs carry packets. Until then, they let every packet pass.
	Awake() error
	// Drain makes the programs leave every packet to the forwarder, by the slow path.
	// Asleep makes them let every packet pass again, and the forwarder's own sockets
	// receive the frames.
	Drain()
	Asleep()
	Close()

	// FilesAt returns open files of an iface for a successor. GiveWay lets the successor's programs come before
	// those of this path. Yield makes the programs leave every packet to
	// the slow path, where the packets wait, until Resume.
	FilesAt(*iface.Iface) (succession.Files, error)
	GiveWay(bool)
	Yield()
	Resume()
	// RemainingMaps and RemainingLink return the open files with which the programs go on when the
	// process ends: all maps, and what keeps the program on the device of an iface. Before the process
	// ends, Leave lets what the programs leave to userspace wait for the next process.
	RemainingMaps() (succession.Files, error)
	RemainingLink(*iface.Iface) (succession.Files, error)
	Leave()

	// SetRules replaces the rules for new flows. RefreshPorts tells the programs which
	// ports listeners have open now.
	SetRules(*rules.Ruleset)
	RefreshPorts()
	// Deny denies a network at a NIC, or no longer does.
	Deny(nic *iface.Iface, network netip.Prefix, denied bool) error
	// SetNeighbour tells the programs the MAC of a host on a NIC's link. A zero MAC means
	// that it is no longer known. EachSentTo visits the hosts to which the programs have
	// sent packets, with the time of the last packet.
	SetNeighbour(nic *iface.Iface, host packet.Addr, mac config.MAC)
	EachSentTo(nic *iface.Iface, visit func(host packet.Addr, at int64))

	// Tick does the work that is due now. The plane calls it every maintainInterval.
	Tick(now int64)
	// Counters returns what the programs have counted at an iface.
	Counters(*iface.Iface) iface.CounterValues
}

// dataPaths are the forwarder, which always runs, and the kernel path, if one is in use.
// dataPaths knows which of the two carries and why, and moves the flows when that changes.
//
// Whoever changes the data path, or attaches or detaches an iface, holds the plane's lock.
// Everybody else who calls the kernel path holds the forwarder's moving, as
// [dataPaths.withKernelPath] does, which prevents its closing. While flows move, the forwarder
// carries nothing.
type dataPaths struct {
	forwarder *userspace.Forwarder
	denied    rules.Denied // what both data paths deny
	log       *slog.Logger
	kernel    atomic.Pointer[kernelPath] // nil: userspace carries

	// The plane's lock guards these.
	waits    bool          // a predecessor still carries
	refusal  string        // why userspace carries, if the configuration does not ask for userspace
	reported datapathState // the last that was logged
}

// kernelPath is the kernel path in use, or nil.
func (d *dataPaths) kernelPath() kernelPath {
	if k := d.kernel.Load(); k != nil {
		return *k
	}
	return nil
}

// withKernelPath calls do with the kernel path in use, if any, and prevents its closing
// until do returns.
func (d *dataPaths) withKernelPath(do func(kernelPath)) {
	d.forwarder.HoldFlows(func() {
		if k := d.kernelPath(); k != nil {
			do(k)
		}
	})
}

// choose switches to the data path that a configuration asks for, and moves the living flows
// there. ifaces are all living ifaces.
func (d *dataPaths) choose(cfg *config.Config, ifaces []*iface.Iface, newKernelPath func(maxFlows int, extras flow.Extras) (kernelPath, error)) error {
	current, room := d.kernelPath(), d.room(cfg)
	extras := d.extras(cfg)
	switch {
	case cfg.Datapath == config.DatapathUserspace:
		d.refusal = ""
		return d.switchTo(nil, room, ifaces)
	case current != nil && current.Fits(room, extras):
		return nil
	}
	next, err := newKernelPath(room, extras)
	if err == nil {
		if err = d.switchTo(next, room, ifaces); err != nil {
			next.Close()
		}
	}
	if err != nil {
		return d.fallBack(cfg, ifaces, err)
	}
	d.refusal = ""
	return nil
}

// extras returns what else a configuration needs memory for: what it allows, and the greetings and
// greeted flows that live.
func (d *dataPaths) extras(cfg *config.Config) flow.Extras {
	extras := flow.Extras{Wide: cfg.HasIPv6(), Named: cfg.HasNames() || d.forwarder.Greets()}
	if !extras.Named {
		d.forwarder.EachFlow(func(f *flow.Flow) { extras.Named = extras.Named || f.Flags.Load()&flow.Greeted != 0 })
	}
	return extras
}

// room returns for how many flows a configuration needs memory: as many as it allows, and those
// that live.
func (d *dataPaths) room(cfg *config.Config) int {
	return max(cfg.MaxFlowsOrDefault(), d.forwarder.FlowCount())
}

// fallBack switches to userspace, if the configuration allows that. reason says why the
// kernel path cannot be used.
func (d *dataPaths) fallBack(cfg *config.Config, ifaces []*iface.Iface, reason error) error {
	if cfg.Datapath == config.DatapathKernel {
		return &config.Error{Err: fmt.Errorf("datapath kernel: %w (datapath auto goes on without it)", reason)}
	}
	d.refusal = reason.Error()
	return d.switchTo(nil, d.room(cfg), ifaces)
}

// end ends the kernel path, if one is in use. If the plane begins again, report logs the
// data path again.
func (d *dataPaths) end(ifaces []*iface.Iface) {
	if err := d.switchTo(nil, config.DefaultMaxFlows, ifaces); err != nil {
		d.log.Error("ending the kernel data path", "error", err)
	}
	d.reported = datapathState{}
}

// datapathState is which data path carries, and why it is userspace if the configuration
// does not ask for userspace.
type datapathState struct {
	datapath config.Datapath
	reason   string
}

func (d *dataPaths) state() datapathState {
	if d.kernelPath() != nil {
		return datapathState{datapath: config.DatapathKernel}
	}
	return datapathState{config.DatapathUserspace, d.refusal}
}

// report logs which data path carries, if that has changed.
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

// switchTo moves the living flows to another data path, which carries from then on. If next
// is nil, that is userspace.
func (d *dataPaths) switchTo(next kernelPath, maxFlows int, ifaces []*iface.Iface) error {
	current := d.kernelPath()
	if next == nil && current == nil && d.forwarder.Fits(maxFlows) {
		return nil
	}
	var table *flow.Table
	if next == nil {
		table = flow.OwnTable(maxFlows, d.forwarder.Handshakes)
	} else if err := d.introduce(next, ifaces); err != nil {
		return err
	} else {
		table = next.FlowTable()
	}
	if current != nil {
		current.Drain()
	}
	var err error
	lost := d.forwarder.Move(table, func() {
		for _, device := range ifaces {
			for _, ifc := range device.Each() {
				table.Know(ifc)
				g := table.Gauges(ifc)
				g.Turn.Store(ifc.Gauges().Turn.Load())
				g.Standby.Store(ifc.Gauges().Standby.Load())
				ifc.Gauge.Store(g)
			}
		}
	}, func() {
		if current != nil {
			current.Asleep()
		}
		if next != nil {
			d.kernel.Store(&next)
			for link := range d.forwarder.CurrentRules().EachLink() {
				link.TellAll()
			}
			if !d.waits {
				err = next.Awake()
			}
		} else {
			d.kernel.Store(nil)
		}
	})
	if lost > 0 {
		d.log.Warn("flows ended because the new flow table has no room for them", "flows", lost)
	}
	if current != nil {
		current.Close()
	}
	return err
}

// introduce attaches a kernel path to all ifaces. Its programs let every packet pass until
// switchTo wakes them.
func (d *dataPaths) introduce(next kernelPath, ifaces []*iface.Iface) error {
	for _, ifc := range ifaces {
		if err := next.Attach(ifc); err != nil {
			return err
		}
	}
	next.SetRules(d.forwarder.CurrentRules())
	for _, device := range ifaces {
		for _, ifc := range device.Each() {
			if err := d.introduceDenied(next, ifc); err != nil {
				return err
			}
		}
	}
	return nil
}

// introduceDenied tells a kernel path what is denied at an iface.
func (d *dataPaths) introduceDenied(next kernelPath, ifc *iface.Iface) error {
	for network := range d.denied.At(ifc) {
		if err := next.Deny(ifc, network, true); err != nil {
			return err
		}
	}
	return nil
}

// attachError says why no program could be put on a device.
type attachError struct{ error }

func (e *attachError) Unwrap() error { return e.error }

// attach makes the data path in use carry what comes in at an iface. If the kernel path
// cannot, the error is an [*attachError].
func (d *dataPaths) attach(ifc *iface.Iface) error {
	if k := d.kernelPath(); k != nil {
		if err := k.Attach(ifc); err != nil {
			return &attachError{err}
		}
	}
	for _, own := range ifc.Each() {
		d.forwarder.Know(own)
	}
	return nil
}

func (d *dataPaths) detach(ifc *iface.Iface) {
	if k := d.kernelPath(); k != nil {
		k.Detach(ifc)
	}
	if ifc.Closed.Load() {
		for _, own := range ifc.Each() {
			d.forwarder.Forget(own)
		}
	}
}

// deny denies a network at a NIC, or no longer does. On error, nothing changes. The caller
// holds the lock of the bans, so the kernel path does not change meanwhile.
func (d *dataPaths) deny(nic *iface.Iface, network netip.Prefix, denied bool) error {
	if k := d.kernelPath(); k != nil {
		if err := k.Deny(nic, network, denied); err != nil {
			return err
		}
	}
	d.denied.Set(nic, network, denied)
	return nil
}

// denyNobody removes all that is denied at a NIC.
func (d *dataPaths) denyNobody(nic *iface.Iface) {
	if k := d.kernelPath(); k != nil {
		for network := range d.denied.At(nic) {
			_ = k.Deny(nic, network, false) // what is not there need not go
		}
	}
	d.denied.Clear(nic)
}

// setRules puts rules in force for new flows.
func (d *dataPaths) setRules(r *rules.Ruleset) {
	d.forwarder.SetRules(r)
	if k := d.kernelPath(); k != nil {
		k.SetRules(r)
	}
}
