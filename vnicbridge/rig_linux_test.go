package vnicbridge

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

func init() {
	if os.Geteuid() == 0 {
		testedPaths = append(testedPaths, "kernel")
	}
	newMemoryPath = takeMemoryPath
	inKernel = runProgram
	refillARP = func(r *rig) {
		if k, ok := r.plane.datapaths.kernelPath().(memoryPath); ok {
			k.refillARP()
		}
	}
	holdSYNs = func(r *rig) {
		if k, ok := r.plane.datapaths.kernelPath().(memoryPath); ok {
			k.Plane.SYNs += int64(time.Second)
		}
	}
}

// smallTable is the size of the flow table where a test does not ask for another:
// the kernel sets aside the memory for all of it.
const smallTable = 1 << 15

// memoryPath is a kernel data path that is used again by a later test, because
// the kernel takes its time to check programs.
type memoryPath struct{ *kernel.Path }

var idlePaths = make(chan *kernel.Path, 4)

func takeMemoryPath(o kernel.Options) (kernelPath, error) {
	o.MaxFlows = min(o.MaxFlows, smallTable)
	if o.MaxFlows == smallTable {
		o.Extras = flow.Extras{Wide: true, Named: true} // whatever a later test needs
		select {
		case k := <-idlePaths:
			k.Begin(o)
			return memoryPath{k}, nil
		default:
		}
	}
	k, err := kernel.New(o, hookMemory)
	if err != nil {
		return nil, err
	}
	k.Programs = make(map[kernel.ProgramKey]*ebpf.Program)
	return memoryPath{k}, nil
}

func (m memoryPath) Fits(maxFlows int, extras flow.Extras) bool {
	return maxFlows == config.DefaultMaxFlows || m.Path.Fits(maxFlows, extras)
}

func (m memoryPath) Close() {
	k := m.Path
	if len(k.Table.Records) != flow.RecordsFor(smallTable) {
		k.Close()
		return
	}
	k.Vacate()
	if err := m.wipe(); err == nil {
		select {
		case idlePaths <- k:
			return
		default:
		}
	}
	k.Free()
}

// wipe makes all maps as they were when they were new.
func (m memoryPath) wipe() error {
	k := m.Path
	for _, m := range k.Memory {
		clear(m)
	}
	var number uint32
	for k.Maps[bpf.BridgeMapSpare].LookupAndDelete(nil, &number) == nil {
	}
	k.Rules.Old = append(k.Rules.Old, k.Rules.Live...)
	k.Rules.Tidy()
	errs := []error{k.Rules.Empty(0), k.Rules.Empty(1)}
	errs = append(errs, empty(k.Maps[bpf.BridgeMapNeighbours], new(bpf.NeighbourKey)), empty(k.Maps[bpf.BridgeMapNeighbours6], new(bpf.NeighbourKey6)))
	k.Woken = false
	m.refillARP()
	errs = append(errs, empty(m.Maps[bpf.BridgeMapPrefixes], &bpf.PrefixKey{}), empty(m.Maps[bpf.BridgeMapWidePrefixes], &bpf.WidePrefixKey{}))
	return errors.Join(errs...)
}

// empty deletes all entries of a map. key has room for a key.
func empty(m *ebpf.Map, key any) error {
	for m.NextKey(nil, key) == nil {
		if err := m.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func (m memoryPath) refillARP() {
	for index := range uint32(16 * link.MessageKinds) { // the ifaces that there are in tests
		_ = m.Maps[bpf.BridgeMapMessageBudgets].Put(index, bpf.Budget{})
	}
}

func (m memoryPath) refillSYNs() { m.Plane.SYNs = 0 }

// memoryHook is a program on a device in memory: frames are given to it with
// BPF_PROG_TEST_RUN.
type memoryHook struct{ device *memoryDevice }

// noIndex is added to a device's number: no device of the machine's has such an
// index, in case a program sends to it.
const noIndex = 1 << 20

func hookMemory(p *iface.Iface, program *ebpf.Program, _ bool) (kernel.Hook, error) {
	clone, err := program.Clone()
	if err != nil {
		return nil, err
	}
	d := p.Device().(*memoryDevice)
	d.program = func(f packet.Frame) ([]byte, uint32, error) {
		run := &ebpf.RunOptions{Data: f.Eth(), DataOut: make([]byte, len(f.Eth())+256), Context: skb{gsoSize: uint32(f.GsoSize())}}
		code, err := clone.Run(run)
		return run.DataOut, code, err
	}
	return memoryHook{d}, nil
}

// skb is struct __sk_buff (include/uapi/linux/bpf.h), of which a run sets one field.
type skb struct {
	_       [176]byte
	gsoSize uint32
	_       [12]byte
}

func (h memoryHook) Target() (int, uint32) { return noIndex + h.device.number, 0 }

func (h memoryHook) Slow() (iface.Device, int) { return nil, 2 * noIndex }

func (h memoryHook) KeepFirst(*slog.Logger) {}

func (h memoryHook) Listen(bool) error { return nil }

func (h memoryHook) Files() (succession.Files, error) { return nil, nil }

func (h memoryHook) LinkDescriptor() (int, bool) { return -1, false }

func (h memoryHook) Close() error {
	h.device.program = nil
	return nil
}

// Codes of a tc program (include/uapi/linux/pkt_cls.h).
const (
	tcUnspec   = 0xffffffff
	tcShot     = 2
	tcRedirect = 7
)

// runProgram gives a frame to the program of a device and does what it says.
func runProgram(r *rig, d *memoryDevice, f packet.Frame) bool {
	r.t.Helper()
	k, ok := r.plane.datapaths.kernelPath().(memoryPath)
	if !ok || d.program == nil {
		return false
	}
	k.Plane.Clock.Store(flow.Coarse(r.plane.path.Clock()))
	before, dropped, budgets := k.sent(), k.dropped(), k.messageBudgets(r, d)
	began := kernel.ProgramClock()
	k.Plane.Began.Store(began - r.plane.path.Clock())
	out, code, err := d.program(f)
	r.longestRun = max(r.longestRun, time.Duration(kernel.ProgramClock()-began))
	if errors.Is(err, unix.EINVAL) {
		return false // the kernel does not run programs on so short a frame
	}
	if err != nil {
		r.t.Fatal(err)
	}
	switch code {
	case tcShot:
		return true
	case tcUnspec:
		// Out of a segment, it reaches the reader of the TAP. From the NIC it goes to
		// the host, and a copy of a message to userspace, unless the program counts a drop.
		switch {
		case !r.isHosts(d):
			return false
		case k.dropped() > dropped:
			return true
		case !slices.Equal(k.messageBudgets(r, d), budgets):
			return false
		}
		r.leftToHost++
		return true
	case tcRedirect:
	default:
		r.t.Fatalf("the program says %d", code)
	}
	for index, n := range k.sent() {
		if n > before[index] {
			to := k.Table.IfaceOf(uint32(index)).Device().(*memoryDevice)
			to.mu.Lock()
			to.out = append(to.out, out)
			to.mu.Unlock()
			return true
		}
	}
	return false // to the slow path
}

// isHosts tells whether a device is one that the host has, too: a NIC, or that of a remote segment.
func (r *rig) isHosts(d *memoryDevice) bool {
	for _, p := range r.plane.devices.ifaces() {
		if p.Device() == iface.Device(d) && p.HasLink() {
			return true
		}
	}
	return false
}

// sent is how many packets the programs have sent, by port.
func (m memoryPath) sent() (sent [iface.Max]uint64) {
	m.eachIface(func(p *iface.Iface) { sent[p.Index] = m.Counters(p).PacketsOut })
	return sent
}

// dropped is how many packets the programs have dropped.
func (m memoryPath) dropped() (n uint64) {
	m.eachIface(func(p *iface.Iface) {
		for _, drops := range m.Counters(p).Drops {
			n += drops
		}
	})
	return n
}

func (m memoryPath) eachIface(do func(*iface.Iface)) {
	m.Each(func(a *kernel.Attachment) {
		for _, p := range a.Iface.Each() {
			do(p)
		}
	})
}

// messageBudgets are the budgets of messages that come in at a device of the host's. Each message that goes to
// userspace changes one.
func (m memoryPath) messageBudgets(r *rig, nic *memoryDevice) (budgets []bpf.Budget) {
	if !r.isHosts(nic) {
		return nil
	}
	for _, p := range r.portOf(nic).Each() {
		for kind := range uint32(link.MessageKinds) {
			var b bpf.Budget
			_ = m.Maps[bpf.BridgeMapMessageBudgets].Lookup(p.Index*uint32(link.MessageKinds)+kind, &b)
			budgets = append(budgets, b)
		}
	}
	return budgets
}
