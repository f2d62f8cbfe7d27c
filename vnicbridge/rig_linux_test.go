package vnicbridge

import (
	"errors"
	"log/slog"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
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
}

// smallTable is the size of the flow table where a test does not ask for another:
// the kernel sets aside the memory for all of it.
const smallTable = 1 << 15

// memoryPath is a kernel data path that is used again by a later test, because
// the kernel takes its time to check programs.
type memoryPath struct{ *path }

var idlePaths = make(chan *path, 4)

func takeMemoryPath(o pathOptions) (kernelPath, error) {
	o.maxFlows = min(o.maxFlows, smallTable)
	if o.maxFlows == smallTable {
		select {
		case k := <-idlePaths:
			k.begin(o)
			return memoryPath{k}, nil
		default:
		}
	}
	k, err := newPath(o, hookMemory)
	if err != nil {
		return nil, err
	}
	k.programs = make(map[programKey]*ebpf.Program)
	return memoryPath{k}, nil
}

func (m memoryPath) fits(maxFlows int) bool {
	return maxFlows == DefaultMaxFlows || m.path.fits(maxFlows)
}

func (m memoryPath) close() {
	k := m.path
	if len(k.table.records) != recordsFor(smallTable) {
		k.close()
		return
	}
	k.vacate()
	if err := m.wipe(); err == nil {
		select {
		case idlePaths <- k:
			return
		default:
		}
	}
	k.free()
}

// wipe makes all maps as they were when they were new.
func (m memoryPath) wipe() error {
	k := m.path
	for _, m := range k.memory {
		clear(m)
	}
	var number uint32
	for k.maps[bpf.BridgeMapSpare].LookupAndDelete(nil, &number) == nil {
	}
	k.rules.old = append(k.rules.old, k.rules.live...)
	k.rules.tidy()
	errs := []error{k.rules.empty(0), k.rules.empty(1)}
	var key bpf.NeighbourKey
	neighbours := k.maps[bpf.BridgeMapNeighbours]
	for neighbours.NextKey(nil, &key) == nil {
		errs = append(errs, neighbours.Delete(key))
	}
	k.woken = false
	m.refillARP()
	return errors.Join(errs...)
}

func (m memoryPath) refillARP() {
	for index := range uint32(8 * arpKinds) { // the ports that there are in tests
		_ = m.maps[bpf.BridgeMapArpBudgets].Put(index, bpf.Budget{})
	}
}

// memoryHook is a program on a device in memory: frames are given to it with
// BPF_PROG_TEST_RUN.
type memoryHook struct{ device *memoryDevice }

// noIndex is added to a device's number: no device of the machine's has such an
// index, in case a program sends to it.
const noIndex = 1 << 20

func hookMemory(p *port, program *ebpf.Program, _ bool) (hook, error) {
	clone, err := program.Clone()
	if err != nil {
		return nil, err
	}
	d := p.device().(*memoryDevice)
	d.program = func(f frame) ([]byte, uint32, error) {
		run := &ebpf.RunOptions{Data: f.eth(), DataOut: make([]byte, len(f.eth())+256), Context: skb{gsoSize: uint32(f.gsoSize())}}
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

func (h memoryHook) target() (int, uint32) { return noIndex + h.device.number, 0 }

func (h memoryHook) slow() (device, int) { return nil, 2 * noIndex }

func (h memoryHook) keepFirst(*slog.Logger) {}

func (h memoryHook) listen(bool) error { return nil }

func (h memoryHook) close() error {
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
func runProgram(r *rig, d *memoryDevice, f frame) bool {
	r.t.Helper()
	k, ok := r.plane.datapaths.kernelPath().(memoryPath)
	if !ok || d.program == nil {
		return false
	}
	k.plane.clock.Store(coarse(r.plane.path.clock()))
	before, dropped := k.sent(), k.dropped()
	raw := f.eth()
	out, code, err := d.program(f)
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
		// the host, and a copy of ARP to userspace, unless the program counts a drop.
		f := asFrame(raw)
		isARP := f.untag() && f.etherType() == etherARP
		if !r.isNIC(d) || isARP {
			return r.isNIC(d) && k.dropped() > dropped
		}
		r.leftToHost++
		return true
	case tcRedirect:
	default:
		r.t.Fatalf("the program says %d", code)
	}
	for index, n := range k.sent() {
		if n > before[index] {
			to := k.table.portOf(uint32(index)).device().(*memoryDevice)
			to.mu.Lock()
			to.out = append(to.out, out)
			to.mu.Unlock()
			return true
		}
	}
	return false // to the slow path
}

func (r *rig) isNIC(d *memoryDevice) bool {
	for _, nic := range r.plane.path.currentRules().nics {
		if nic.device() == device(d) {
			return true
		}
	}
	return false
}

// sent is how many packets the programs have sent, by port.
func (m memoryPath) sent() (sent [maxPorts]uint64) {
	m.each(func(a *attachment) { sent[a.port.index] = m.counters(a.port).packetsOut })
	return sent
}

// dropped is how many packets the programs have dropped.
func (m memoryPath) dropped() (n uint64) {
	m.each(func(a *attachment) {
		for _, drops := range m.counters(a.port).drops {
			n += drops
		}
	})
	return n
}
