package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Path is the kernel data path: its maps, and its programs on the ifaces' devices.
type Path struct {
	Options
	hook putHook

	spec     *ebpf.CollectionSpec
	Maps     map[string]*ebpf.Map
	Programs map[ProgramKey]*ebpf.Program // loaded so far; nil: they are not kept
	Memory   map[string][]byte            // the maps that this process has in its memory
	Plane    *PlaneState
	Table    *flow.Table
	ifaces   atomic.Pointer[[bpf.MaxIfaces]*Attachment]
	running  sync.WaitGroup
	carriers sync.WaitGroup // those of running that read the slow path
	done     chan struct{}

	mu lockorder.Mutex[lockorder.KernelPath]

	Rules  kernelRules
	clsact bool // the kernel has no tcx

	givesWay atomic.Bool
	Woken    bool // Awake was called
}

// putHook puts a program on an iface's device, by tcx, or as a filter of the older clsact. A
// filter outlives this process, so its program must stop by itself. If the kernel has no tcx
// and clsact is false, the error is ebpf.ErrNotSupported.
type putHook func(p *iface.Iface, program *ebpf.Program, clsact bool) (Hook, error)

// Hook is a program that is attached to the device of an iface.
type Hook interface {
	// Target returns the device and the flags with which bpf_redirect sends frames that
	// leave by the iface. The flags are bpf.ToPeer if bpf_redirect_peer does.
	Target() (ifindex int, flags uint32)
	// Slow returns the device, and its index, from which userspace receives the frames that
	// the program leaves to it. It is nil if they come from the iface's own device.
	Slow() (iface.Device, int)
	// KeepFirst keeps the program before those of others.
	KeepFirst(log *slog.Logger)
	// Listen makes userspace receive all frames that come in, as without a program, or none.
	Listen(bool) error
	// Files returns the open files of the slow path for a successor.
	Files() (succession.Files, error)
	// LinkDescriptor returns the descriptor that keeps the program on the device. ok is false if
	// there is none.
	LinkDescriptor() (fd int, ok bool)
	Close() error
}

// Attachment is an iface with its program.
type Attachment struct {
	Iface *iface.Iface // the device's, for IPv4
	Hook
	entries [config.Families]bpf.Iface
}

// New makes a kernel data path without ifaces. hook puts a program on an iface's device. The
// error says what the path lacks here: capabilities, memory, or the kernel's support.
func New(o Options, hook putHook) (*Path, error) {
	if err := host.Require(host.DatapathCapabilities); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadBridge()
	if err != nil {
		return nil, fmt.Errorf("reading the BPF objects: %w", err)
	}
	k := &Path{hook: hook, spec: spec, Maps: make(map[string]*ebpf.Map), Memory: make(map[string][]byte)}
	if err := k.makeMaps(o.MaxFlows, o.Extras); err != nil {
		k.Free()
		return nil, err
	}
	k.Begin(o)
	return k, nil
}

// Try returns why there cannot be a kernel data path here, or nil. It loads the maps and the
// programs, and unloads them at once.
func Try(maxFlows int) error {
	k, err := New(Options{
		MaxFlows: maxFlows, Open: new(rules.OpenPorts), Handshakes: new(flow.Handshakes),
		Clock: func() int64 { return 0 }, Log: slog.New(slog.DiscardHandler),
	}, nil)
	if err != nil {
		return err
	}
	defer k.Close()
	for _, name := range []string{bpf.BridgeProgFromNic, bpf.BridgeProgFromVnic} {
		program, err := k.load(ProgramKey{name: name, index6: 1})
		if err != nil {
			return err
		}
		_ = program.Close()
	}
	return nil
}

// Begin makes a data path of empty maps. Tests reuse maps, because making them is slow.
func (k *Path) Begin(o Options) {
	k.Options, k.done = o, make(chan struct{})
	k.ifaces.Store(new([bpf.MaxIfaces]*Attachment))
	k.Plane.capacity.Store(uint32(flow.RecordsFor(o.MaxFlows)))
	near, far := flow.BucketsFor(o.MaxFlows)
	k.Plane.nearMask, k.Plane.farMask = uint32(near-1), uint32(far-1)
	k.Plane.tableKey = [2]uint64{rand.Uint64(), rand.Uint64()}
	buckets := inMemory[flow.Bucket](k, bpf.BridgeMapBuckets)
	k.Table = flow.NewTable(flow.TableMemory{
		KeyTable: flow.KeyTable{
			Near: buckets[:near], Far: buckets[near:],
			Records: inMemory[bpf.FlowRecord](k, bpf.BridgeMapRecords), Secret: k.Plane.tableKey,
		},
		Answers: inMemory[flow.Traffic](k, bpf.BridgeMapAnswers),
		Wide:    inMemory[flow.WideAddresses](k, bpf.BridgeMapWide),
		Shifts:  inMemory[flow.ShiftWords](k, bpf.BridgeMapShifts),
		Meters:  inMemory[iface.Gauges](k, bpf.BridgeMapMeters),
		Limits:  inMemory[iface.Limits](k, bpf.BridgeMapLimits),
		Clients: inMemory[flow.ClientCounts](k, bpf.BridgeMapClients),
		Held:    inMemory[flow.Held](k, bpf.BridgeMapHeld),
		Spare:   spareMap{k.Maps[bpf.BridgeMapSpare]},
		Counts:  flow.TableCounts{Flows: &k.Plane.flows, Limit: &k.Plane.limit, Fresh: &k.Plane.fresh, Quarantine: &k.Plane.quarantine},
		Untils:  inMemory[atomic.Uint64](k, bpf.BridgeMapQuarantine),
	}, o.MaxFlows, o.Handshakes)
	k.Plane.Began.Store(ProgramClock() - o.Clock())
	k.Rules = kernelRules{maps: k.Maps, plane: k.Plane, open: o.Open}
	k.Tick(o.Clock())
}

// makeMaps makes the maps, and maps those that Go and the programs both change into this
// process's memory. Four maps have the size of the flow table, and those of the extras if they are
// needed.
func (k *Path) makeMaps(maxFlows int, extras flow.Extras) error {
	if err := checkMemory(maxFlows, extras); err != nil {
		return err
	}
	near, far := flow.BucketsFor(maxFlows)
	records := flow.RecordsFor(maxFlows)
	for name, size := range map[string]int{
		bpf.BridgeMapBuckets: near + far, bpf.BridgeMapRecords: records,
		bpf.BridgeMapAnswers: records, bpf.BridgeMapSpare: records,
	} {
		k.spec.Maps[name].MaxEntries = uint32(size)
	}
	if extras.Wide {
		k.spec.Maps[bpf.BridgeMapWide].MaxEntries = uint32(records)
	}
	if extras.Named {
		k.spec.Maps[bpf.BridgeMapShifts].MaxEntries = uint32(records)
		k.spec.Maps[bpf.BridgeMapHeld].MaxEntries = flow.HeldSlots
	}
	k.spec.Maps[bpf.Variables].Flags |= unix.BPF_F_MMAPABLE
	for _, name := range config.SortedKeys(k.spec.Maps) {
		if name == ".rodata" {
			continue // each program has its own
		}
		m, err := ebpf.NewMap(k.spec.Maps[name])
		if err != nil {
			return fmt.Errorf("making the BPF map %s for %d flows: %w", name, maxFlows, host.ExplainBPF(err))
		}
		k.Maps[name] = m
	}
	for _, name := range []string{
		bpf.Variables, bpf.BridgeMapRecords, bpf.BridgeMapAnswers, bpf.BridgeMapWide, bpf.BridgeMapShifts,
		bpf.BridgeMapMeters, bpf.BridgeMapLimits, bpf.BridgeMapClients, bpf.BridgeMapHeld, bpf.BridgeMapBuckets, bpf.BridgeMapQuarantine,
	} {
		mapped, err := memory(k.Maps[name])
		if err != nil {
			return err
		}
		k.Memory[name] = mapped
	}
	k.Plane = &inMemory[PlaneState](k, bpf.Variables)[0] // the only one
	return nil
}

// inMemory returns the values of a map, which are a part of this process's memory.
func inMemory[T any](k *Path, name string) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(k.Memory[name]))), k.Maps[name].MaxEntries())
}

// FlowTable returns the flow table that the programs and the forwarder share.
func (k *Path) FlowTable() *flow.Table { return k.Table }

// Fits tells whether the flow table has room for a number of flows, also of IPv6 if wide is
// set.
func (k *Path) Fits(maxFlows int, extras flow.Extras) bool { return k.Table.Fits(maxFlows, extras) }

// attached returns the attachment of an iface by the iface's number, or nil.
func (k *Path) attached(index uint32) *Attachment { return k.ifaces.Load()[index] }

// Attach puts a program on an iface's device, and makes the forwarder receive what the
// program leaves to it.
func (k *Path) Attach(p *iface.Iface) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := &Attachment{Iface: p}
	var err error
	if a.Hook, err = k.hookUp(p); errors.Is(err, ebpf.ErrNotSupported) && !k.clsact {
		k.clsact = true
		k.running.Go(k.beat)
		a.Hook, err = k.hookUp(p)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", p.Name, err)
	}
	if err = k.refresh(a); err == nil && k.Woken {
		err = a.Listen(false)
	}
	if err != nil {
		return errors.Join(err, a.Hook.Close())
	}
	k.place(p.Index, a)
	for _, own := range p.Each() {
		k.Table.Know(own)
	}
	if k.Woken {
		k.carrySlow(a)
	}
	return nil
}

// carrySlow begins to carry what the program of an iface leaves to userspace.
func (k *Path) carrySlow(a *Attachment) {
	if slow, _ := a.Slow(); slow != nil {
		k.carriers.Add(1)
		k.running.Go(func() {
			defer k.carriers.Done()
			k.carry(a, slow)
		})
	}
}

func (k *Path) hookUp(p *iface.Iface) (Hook, error) {
	key := ProgramKey{name: bpf.BridgeProgFromVnic, index: p.Index, clsact: k.clsact, egress: leavesBy(p.Device())}
	if p.V6 != nil {
		key.index6 = p.V6.Index
	}
	if p.NIC != nil {
		key.name = bpf.BridgeProgFromNic
	}
	program := k.Programs[key]
	if program == nil {
		var err error
		if program, err = k.load(key); err != nil {
			return nil, err
		}
		if k.Programs == nil {
			defer func() { _ = program.Close() }()
		} else {
			k.Programs[key] = program
		}
	}
	return k.hook(p, program, k.clsact)
}

// ProgramKey identifies a loaded program.
type ProgramKey struct {
	name   string
	index  uint32 // of the iface; a constant in the program, which saves a lookup
	index6 uint32 // of the device's iface for IPv6; 0: there is none
	clsact bool
	egress bool // on what leaves by the device
}

func (k *Path) load(key ProgramKey) (*ebpf.Program, error) {
	name := key.name
	spec := k.spec.Copy()
	if err := spec.Variables[bpf.BridgeVarSelf].Set(key.index); err != nil {
		return nil, err
	}
	if err := spec.Variables[bpf.BridgeVarSelf6].Set(key.index6); err != nil {
		return nil, err
	}
	for variable, set := range map[string]bool{bpf.BridgeVarNeedsHeartbeat: key.clsact, bpf.BridgeVarAtEgress: key.egress} {
		if !set {
			continue
		}
		if err := spec.Variables[variable].Set(uint32(1)); err != nil {
			return nil, err
		}
	}
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	shared := make(map[string]*ebpf.Map)
	for name, m := range k.Maps {
		shared[name] = m
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			k.Log.Debug("the kernel refuses a BPF program", "log", fmt.Sprintf("%+v", verifier))
		}
		return nil, fmt.Errorf("loading the BPF program %s: %w", name, host.ExplainBPF(err))
	}
	defer collection.Close()
	return collection.DetachProgram(name), nil
}

// place records the attachment of an iface, or with nil that there is none. Readers of the
// ifaces need no lock.
func (k *Path) place(index uint32, a *Attachment) {
	ifaces := *k.ifaces.Load()
	ifaces[index] = a
	k.ifaces.Store(&ifaces)
}

// carry runs the forwarder on the frames that a program leaves to userspace.
func (k *Path) carry(a *Attachment, slow iface.Device) {
	err := k.Run(a.Iface, slow)
	if k.attached(a.Iface.Index) == a && !errors.Is(err, os.ErrDeadlineExceeded) {
		k.Log.Error("what the kernel leaves to userspace no longer arrives: reload, or restart", "device", a.Iface.Name, "error", err)
	}
}

// Detach removes the program of an iface from its device.
func (k *Path) Detach(p *iface.Iface) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.attached(p.Index)
	if a == nil {
		return
	}
	for _, own := range p.Each() {
		if err := k.Maps[bpf.BridgeMapIfaces].Put(own.Index, bpf.Iface{}); err != nil {
			k.Log.Error("detaching a BPF program", "device", p.Name, "error", err)
		}
	}
	k.place(p.Index, nil)
	if err := a.Hook.Close(); err != nil {
		k.Log.Error("detaching a BPF program", "device", p.Name, "error", err)
	}
	for _, own := range p.Each() {
		k.handOver(own)
	}
}

// handOver adds the programs' counts at an iface to the iface's own counters, and clears the
// entry for the next iface with that number.
func (k *Path) handOver(p *iface.Iface) {
	p.Counters.Add(k.Counters(p))
	if err := k.Maps[bpf.BridgeMapCounts].Put(p.Index, make([]bpf.Counters, ebpf.MustPossibleCPU())); err != nil {
		k.Log.Error("clearing the counters of the BPF programs", "device", p.Name, "error", err)
	}
}

// Each calls do with every attachment.
func (k *Path) Each(do func(*Attachment)) {
	for _, a := range k.ifaces.Load() {
		if a != nil {
			do(a)
		}
	}
}

// Awake makes the programs carry packets.
func (k *Path) Awake() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.Woken {
		k.Each(k.carrySlow)
	}
	k.Woken = true
	k.Plane.mode.Store(bpf.Fast)
	var errs []error
	k.Each(func(a *Attachment) { errs = append(errs, a.Listen(false)) })
	return errors.Join(errs...)
}

// Drain makes the programs leave every packet to the forwarder.
func (k *Path) Drain() { k.Plane.mode.Store(bpf.Slow) }

// Asleep makes the programs let every packet pass, so that the forwarder's own sockets receive
// the frames.
func (k *Path) Asleep() {
	k.Each(func(a *Attachment) {
		if err := a.Listen(true); err != nil {
			k.Log.Error("receiving a device's frames in userspace again", "device", a.Iface.Name, "error", err)
		}
	})
	k.Plane.mode.Store(bpf.Asleep)
}

// refresh updates what the programs know of the ifaces of a device, if it changed.
func (k *Path) refresh(a *Attachment) error {
	for _, own := range a.Iface.Each() {
		entry := describe(a, own)
		if entry == a.entries[own.Family] {
			continue
		}
		a.entries[own.Family] = entry
		if err := k.Maps[bpf.BridgeMapIfaces].Put(own.Index, entry); err != nil {
			return fmt.Errorf("device %s: telling the BPF programs of it: %w", own.Name, err)
		}
	}
	return nil
}

// describe returns what the programs know of an iface of a device.
func describe(a *Attachment, p *iface.Iface) bpf.Iface {
	ifindex, flags := a.Target()
	_, slow := a.Slow()
	entry := bpf.Iface{Ifindex: uint32(ifindex), Redirect: flags, Slow: uint32(slow), Mtu: uint32(p.LinkMTU()), Mac: p.MAC(), Paced: p.Paced.Load()}
	own := prefixOf(p)
	network, mask := packet.AddrOf(own.Masked().Addr()), maskOf(own)
	gateway := packet.NoAddr
	if p.NIC != nil {
		entry.Nic = 1
	}
	if p.HasLink() {
		entry.Linked = 1
	}
	if l := p.Link(); l != nil {
		gateway, entry.GatewayMac = l.Router()
	}
	if p.Family == config.IPv6 {
		entry.Address6, entry.Network6 = packet.Halves(p.Address()), packet.Halves(network)
		entry.Mask6, entry.Gateway6 = packet.Halves(mask), packet.Halves(gateway)
		return entry
	}
	entry.Address, entry.Gateway = packet.BE32(p.Address()), packet.BE32(gateway)
	if p.NIC != nil {
		entry.Network, entry.Mask = packet.BE32(network), packet.BE32(mask)
	}
	return entry
}

// prefixOf returns the network of a NIC's link. It is the zero value for a VNIC.
func prefixOf(p *iface.Iface) netip.Prefix {
	if p.NIC == nil {
		return netip.Prefix{}
	}
	return p.NIC.Network
}

// maskOf returns the netmask of a network.
func maskOf(network netip.Prefix) (mask packet.Addr) {
	if !network.IsValid() {
		return packet.NoAddr
	}
	bits := network.Addr().BitLen()
	copy(mask[len(mask)-bits/8:], net.CIDRMask(network.Bits(), bits))
	return mask
}

func (k *Path) refreshAll() {
	k.Each(func(a *Attachment) {
		if err := k.refresh(a); err != nil {
			k.Log.Error("updating what the BPF programs know", "error", err)
		}
	})
}

// SetRules replaces the rules for new flows.
func (k *Path) SetRules(r *rules.Ruleset) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refreshAll()
	k.putInForce(r)
}

// Deny denies a network at a NIC, or no longer does.
func (k *Path) Deny(nic *iface.Iface, network netip.Prefix, denied bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Rules.Deny(nic, network, denied)
}

// RefreshPorts tells the programs which ports listeners have open now.
func (k *Path) RefreshPorts() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.putInForce(k.Rules.current)
}

func (k *Path) putInForce(r *rules.Ruleset) {
	if err := k.Rules.set(r); err != nil {
		k.Log.Error("the kernel data path admits no new flows: userspace does", "error", err)
	}
}

// Tick sets the programs' clock to now, renews how many packets they may leave to userspace
// only to be refused, removes old rules, and keeps the programs first.
func (k *Path) Tick(now int64) {
	k.Plane.Clock.Store(flow.Coarse(now))
	k.Plane.refusals.Store(k.Refusals)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refreshAll()
	k.Rules.Tidy()
	if k.Woken && !k.givesWay.Load() {
		k.Each(func(a *Attachment) { a.KeepFirst(k.Log) })
	}
}

// Counters returns what the programs have counted at an iface, on all CPUs.
func (k *Path) Counters(p *iface.Iface) (sum iface.CounterValues) {
	var perCPU []bpf.Counters
	if err := k.Maps[bpf.BridgeMapCounts].Lookup(p.Index, &perCPU); err != nil {
		return sum
	}
	for _, c := range perCPU {
		sum.PacketsIn += c.PacketsIn
		sum.PacketsOut += c.PacketsOut
		sum.BytesIn += c.BytesIn
		sum.BytesOut += c.BytesOut
		sum.NewFlows += c.NewFlows
		for reason := range sum.Drops {
			sum.Drops[reason] += c.Drops[reason]
		}
	}
	return sum
}

// Close removes the programs and frees the maps.
func (k *Path) Close() {
	k.Vacate()
	k.Free()
}

// Vacate detaches the programs of all ifaces.
func (k *Path) Vacate() {
	k.Each(func(a *Attachment) { k.Detach(a.Iface) })
	close(k.done)
	k.running.Wait()
}

// Free frees the programs and the maps.
func (k *Path) Free() {
	for _, p := range k.Programs {
		_ = p.Close()
	}
	for _, m := range k.Memory {
		_ = unix.Munmap(m)
	}
	for _, m := range k.Maps {
		_ = m.Close()
	}
}
