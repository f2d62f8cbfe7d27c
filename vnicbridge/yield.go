package vnicbridge

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Predecessor is the plane of the process that this one takes over from. [*Plane] is one.
type Predecessor interface {
	// Inventory returns what the predecessor has. It goes on carrying packets.
	Inventory() (Inventory, error)
	// Yield makes the predecessor stop, and returns its state. Packets wait meanwhile.
	Yield() (State, error)
	// Release makes the predecessor give up a device before Yield, because the successor's
	// configuration has another one in its place, or none. The device and its files are then no
	// longer in the inventory.
	Release(device string) error
	// Resume makes the predecessor go on, because the successor has failed.
	Resume()
}

// Inventory is what a plane has that its successor prepares to take over.
type Inventory struct {
	// The plane's clock, in ns.
	Now int64 `json:"now"`
	// The data path that carries.
	Datapath config.Datapath `json:"datapath"`
	// The segments' and bridges' devices.
	Devices map[string]Device `json:"devices"`
	// The ports that listeners of the process have open, by segment.
	Ports map[string][]config.PortRange `json:"ports"`
	// The predecessor's process has ended, so there is nothing to go back to.
	Ended bool `json:"ended,omitempty"`
	// The open files of the devices.
	Files succession.Files `json:"-"`
}

// Device is a device that a successor takes over.
type Device struct {
	// What the device must be: another identity is another device.
	Identity string `json:"identity"`
	// The names of its files.
	Files []string `json:"files"`
}

// State is what a plane that has yielded knew.
type State struct {
	Format   int                     `json:"format"` // [flow.SavedFormat]
	Ifaces   map[string]ifaceState   `json:"ifaces"`
	Links    map[string]link.Saved   `json:"links"`
	States   map[string]config.State `json:"states"`
	Weights  map[string]int          `json:"weights"`
	Switches map[string]string       `json:"switches"`
	Bans     []Ban                   `json:"bans"`
	Rules    map[string]uint32       `json:"rules,omitempty"` // the numbers in flows of steer rules, by their first names
	Refused  map[string]uint64       `json:"refused"`         // by segment: packets beyond its limits
	Roles    map[string]savedRole    `json:"roles,omitempty"` // of bridges that fail over
	Files    succession.Files        `json:"-"`               // one: the flows
}

// ifaceState is the state of an iface that lives longer than a process.
type ifaceState struct {
	Number   uint32              `json:"number"`
	Counters iface.CounterValues `json:"counters"`
	Turn     uint32              `json:"turn"`
}

// flowsFile is the name of the file with the flows.
const flowsFile = "flows"

// ErrYielded says that a successor has taken over, so this plane changes nothing any more.
var ErrYielded = errors.New("another process has taken over from this one (caddy vnic upgrade): ask again")

// each yields the ifaces of the living devices, with the names that stay the same in a successor.
func (d devices) each() iter.Seq2[string, *iface.Iface] {
	return func(yield func(string, *iface.Iface) bool) {
		for name, s := range d.segments {
			if !yield(segmentKey(name), s.iface) {
				return
			}
		}
		for name, b := range d.bridges {
			if !yield(bridgeKey(name), b.iface) {
				return
			}
		}
	}
}

func segmentKey(name string) string { return "segment " + name }
func bridgeKey(name string) string  { return "bridge " + name }

func isBridgeKey(key string) bool { return strings.HasPrefix(key, bridgeKey("")) }

// familyKey is the name of a device's iface for a family.
func familyKey(device string, f config.Family) string { return fmt.Sprint(device, " ", f) }

// Inventory implements [Predecessor].
func (p *Plane) Inventory() (Inventory, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.retired.ifaces()) > 0 || p.heir != nil {
		return Inventory{}, errors.New("another configuration, or a successor, is being put in force: try again")
	}
	if k := p.datapaths.kernelPath(); k != nil {
		k.GiveWay(true)
	}
	return p.inventory(func(string) bool { return true })
}

// inventory returns the inventory of some segments and all bridges of the configuration in force.
func (p *Plane) inventory(of func(segment string) bool) (i Inventory, err error) {
	if p.cfg == nil {
		return i, errors.New("no configuration of vnic is in force")
	}
	i = Inventory{
		Now: p.now(), Datapath: p.datapaths.state().datapath,
		Devices: make(map[string]Device), Ports: make(map[string][]config.PortRange), Files: make(succession.Files),
	}
	add := func(key, identity string, ifc *iface.Iface) {
		var files succession.Files
		if err == nil {
			files, err = p.filesOf(ifc)
		}
		maps.Copy(i.Files, files)
		i.Devices[key] = Device{identity, slices.Sorted(maps.Keys(files))}
	}
	for name, s := range p.segments {
		if of(name) {
			add(segmentKey(name), s.spec.Identity(), s.iface)
			i.Ports[name] = p.open.List(name)
		}
	}
	for name, b := range p.bridges {
		add(bridgeKey(name), b.spec.identity(), b.iface)
	}
	if err != nil {
		return Inventory{}, errors.Join(err, i.Files.Close())
	}
	return i, nil
}

// filed is a device with open files for a successor.
type filed interface {
	Files() (succession.Files, error)
}

// filesOf returns the open files of a device, and those of the kernel path there.
func (p *Plane) filesOf(ifc *iface.Iface) (files succession.Files, err error) {
	files = make(succession.Files)
	add := func(more succession.Files, failed error) {
		maps.Copy(files, more)
		err = errors.Join(err, failed)
	}
	if d, ok := ifc.Device().(filed); ok { // all but those of tests
		add(d.Files())
	}
	if k := p.datapaths.kernelPath(); k != nil {
		add(k.FilesAt(ifc))
	}
	if err != nil {
		err = errors.Join(err, files.Close())
	}
	return files, err
}

// Yield implements [Predecessor]. Afterwards the plane changes nothing, not even when it is
// closed. [Plane.Resume] makes it go on.
func (p *Plane) Yield() (State, error) {
	p.mu.Lock()
	if p.cfg == nil || p.yielded.Swap(true) {
		p.mu.Unlock()
		return State{}, errors.New("nothing to yield")
	}
	if k := p.datapaths.kernelPath(); k != nil {
		k.Yield()
	}
	err := p.pauseDevices(true)
	carriers := &p.session.carriers
	p.mu.Unlock()
	carriers.Wait() // without the lock, which one that looks for its device needs
	if err != nil {
		p.Resume()
		return State{}, err
	}
	roles := p.yieldRoles()
	p.mu.Lock()
	defer p.mu.Unlock()
	state, err := p.state()
	state.Roles = roles
	return state, err
}

func (p *Plane) pauseDevices(on bool) error {
	var errs []error
	for _, ifc := range p.devices.each() {
		if d, ok := ifc.Device().(iface.Pauser); ok {
			errs = append(errs, d.Pause(on))
		}
	}
	return errors.Join(errs...)
}

// state returns what the plane knows.
func (p *Plane) state() (State, error) {
	s := p.lasting()
	s.Bans = p.bans.list()
	for key, device := range p.devices.each() {
		for _, own := range device.Each() {
			s.Ifaces[familyKey(key, own.Family)] = ifaceState{own.Index, p.countersOf(own), own.Gauges().Turn.Load()}
		}
	}
	for name, segment := range p.segments {
		s.Refused[name] = p.path.Refused(segment.iface)
	}
	for name, b := range p.bridges {
		for f, l := range b.eachLink() {
			s.Links[familyKey(bridgeKey(name), f)] = l.Save()
		}
	}
	for name, segment := range p.segments {
		for f, server := range segment.servers() {
			s.Links[familyKey(segmentKey(name), f)] = server.Save()
		}
	}
	var flows []flow.Saved
	p.path.EachFlow(func(f *flow.Flow) { flows = append(flows, f.Save()) })
	file, err := succession.Memory(flowsFile, flow.SavedBytes(flows))
	s.Files = succession.Files{flowsFile: file}
	return s, err
}

// lasting returns that part of the state which only this process knows while the kernel carries, without
// the bans.
func (p *Plane) lasting() State {
	return State{
		Format: flow.SavedFormat, Ifaces: make(map[string]ifaceState), Links: make(map[string]link.Saved),
		States: p.states, Weights: p.weights, Switches: p.switches, Rules: p.path.Labels().Numbers(), Refused: make(map[string]uint64),
	}
}

// Yielded tells whether a successor has taken over, or is about to.
func (p *Plane) Yielded() bool { return p.yielded.Load() }

// Release implements [Predecessor]. This plane has the device until it ends. A successor that has
// another one in its place would be in its way.
func (p *Plane) Release(device string) error { return ErrChanged }

// ErrChanged says that a successor whose predecessor still goes on wants another device.
var ErrChanged = errors.New("its device or address differs from what is in force: reload the configuration first, then upgrade")

// Resume implements [Predecessor].
func (p *Plane) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.datapaths.kernelPath()
	if k != nil {
		k.GiveWay(false)
	}
	if !p.yielded.Swap(false) {
		return
	}
	if err := p.pauseDevices(false); err != nil {
		p.log.Error("going on after a successor has failed", "error", err)
	}
	for _, d := range p.devices.ifaces() {
		p.carry(d)
	}
	if k != nil {
		k.Resume()
	}
	p.readOn()
}
