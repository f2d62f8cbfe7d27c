package vnicbridge

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing/synctest"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// memoryMachine is a machine whose devices are in memory.
type memoryMachine struct {
	mu       sync.Mutex
	devices  map[string]*memoryDevice
	guards   []host.GuardSpec
	hints    chan struct{}
	prefixes []host.Prefix
	fail     string // the device that cannot be made
	unguard  int    // so many times from now on the guard is set, and the last time fails; 0: it never does
	kernel   bool   // it can have a kernel data path

	lines   chan string     // of the FIFO
	tracked map[string]bool // by the path of the track file
	routes  map[string]bool // that announce addresses: "<address> table <number>"
}

// elect lets an elector write lines to its FIFO.
func (r *rig) elect(lines ...string) {
	r.t.Helper()
	for _, line := range lines {
		r.machine.lines <- line
		synctest.Wait()
	}
}

func (m *memoryMachine) MakeFIFO(string) error { return nil }

// Follow takes the line "" for the end of the elector.
func (m *memoryMachine) Follow(_ string, heard func(string), gone func(), stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case line := <-m.lines:
			if line == "" {
				gone()
			} else {
				heard(line)
			}
		}
	}
}

func (m *memoryMachine) Track(path string, fit bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tracked[path] = fit
	return nil
}

// fit is what an elector reads in a track file.
func (m *memoryMachine) fit(path string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tracked[path]
}

func (m *memoryMachine) Announce(table int, address netip.Addr, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	route := fmt.Sprintf("%s table %d", address, table)
	if m.routes == nil {
		m.routes = make(map[string]bool)
	}
	if on {
		m.routes[route] = true
	} else {
		delete(m.routes, route)
	}
	return nil
}

// announced are the routes that announce addresses.
func (m *memoryMachine) announced() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.routes))
}

var errInjected = errors.New("injected failure")

func (m *memoryMachine) newKernelPath(o kernel.Options) (kernelPath, error) {
	if !m.kernel {
		return nil, errInjected
	}
	return newMemoryPath(o)
}

// newMemoryPath makes a kernel data path for devices in memory.
var newMemoryPath func(kernel.Options) (kernelPath, error)

func (m *memoryMachine) Check(*config.Config, map[string]bool) error { return nil }

func (m *memoryMachine) OpenNIC(name string, _ [config.Families]netip.Prefix) (iface.NICDevice, error) {
	return m.add(name, nicMAC)
}

func (m *memoryMachine) MakeVNIC(spec host.VNICSpec) (host.VNIC, error) {
	if spec.Remote {
		return m.add(spec.Iface, deviceMAC)
	}
	return m.add(spec.Iface, spec.MAC)
}

func (m *memoryMachine) KeepNetns(string) (release func() error) { return func() error { return nil } }

func (m *memoryMachine) add(name string, mac config.MAC) (*memoryDevice, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == m.fail {
		return nil, errInjected
	}
	d := &memoryDevice{
		state: iface.LinkState{Name: name, Up: true, MAC: mac, MTU: 1500},
		in:    make(chan packet.Frame), gone: make(chan struct{}), number: len(m.devices) + 1,
	}
	if old := m.devices[name]; old != nil {
		d.number = old.number
	}
	m.devices[name] = d
	return d, nil
}

func (m *memoryMachine) device(name string) *memoryDevice {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.devices[name]
}

func (m *memoryMachine) capture(iface.Device, capture.SourceOptions) (capture.FrameSource, error) {
	return nil, errInjected
}

func (m *memoryMachine) Guard(g host.GuardSpec) error {
	if m.unguard > 0 {
		m.unguard--
		if m.unguard == 0 {
			return errInjected
		}
	}
	m.guards = append(m.guards, g)
	return nil
}

func (m *memoryMachine) HostPrefixes() ([]host.Prefix, error) { return m.prefixes, nil }

func (m *memoryMachine) Changes() <-chan struct{} { return m.hints }

func (m *memoryMachine) obstacles() []string { return nil }

func (m *memoryMachine) Inherit(succession.Files) {}

func (m *memoryMachine) Confirm() error { return nil }

func (m *memoryMachine) RemainingFiles() (succession.Files, error) { return nil, nil }

func (m *memoryMachine) Close() error { return nil }

// memoryDevice is one of its devices.
type memoryDevice struct {
	state    iface.LinkState
	in       chan packet.Frame
	gone     chan struct{}
	mu       sync.Mutex
	out      [][]byte
	groups   []config.MAC // that were joined
	number   int
	settings host.VNICSettings
	set      int // how often it was configured
	program  func(f packet.Frame) (out []byte, code uint32, err error)
}

func (d *memoryDevice) Receive(batch []packet.Frame) (int, error) {
	select {
	case batch[0] = <-d.in:
		return 1, nil
	case <-d.gone:
		return 0, net.ErrClosed
	}
}

func (d *memoryDevice) Send(frames []packet.Frame) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range frames {
		d.out = append(d.out, slices.Clone(f.Eth()))
	}
	return len(frames)
}

func (d *memoryDevice) take() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.out
	d.out = nil
	return out
}

func (d *memoryDevice) Close() error {
	if !d.closed() {
		close(d.gone)
	}
	return nil
}

func (d *memoryDevice) Link() (iface.LinkState, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, nil
}

func (d *memoryDevice) Index() int { return d.number }

func (d *memoryDevice) LeftOut() map[packet.DropReason]iface.Tally { return nil }

func (d *memoryDevice) Know(packet.Addr, config.MAC, bool) {}

func (d *memoryDevice) Join(group config.MAC) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups = append(d.groups, group)
	return nil
}

func (d *memoryDevice) Leave(group config.MAC) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups = slices.DeleteFunc(d.groups, func(g config.MAC) bool { return g == group })
	return nil
}

func (d *memoryDevice) Do(f func() error) error { return f() }

func (d *memoryDevice) Configure(want host.VNICSettings) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settings = want
	d.set++
	return nil, nil
}

// configured is how the device was configured last, and how often it was.
func (d *memoryDevice) configured() (host.VNICSettings, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settings, d.set
}

func (d *memoryDevice) closed() bool {
	select {
	case <-d.gone:
		return true
	default:
		return false
	}
}
