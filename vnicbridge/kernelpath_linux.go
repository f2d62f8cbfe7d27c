package vnicbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// path is the kernel data path: the maps, and the programs on the ports' devices.
type path struct {
	pathOptions
	hook putHook

	spec     *ebpf.CollectionSpec
	maps     map[string]*ebpf.Map
	programs map[programKey]*ebpf.Program // loaded so far, if they are kept
	memory   map[string][]byte            // of maps, in this process
	plane    *planeState
	table    *flowTable
	ports    atomic.Pointer[[bpf.MaxPorts]*attachment]
	running  sync.WaitGroup
	done     chan struct{}

	mu     sync.Mutex
	rules  kernelRules
	clsact bool // there is no tcx
	woken  bool
}

// putHook puts a program on a port's device: by tcx, or as a filter of the older clsact.
// A filter outlives this process, so its program must stop by itself. If the kernel has no
// tcx, the error is ebpf.ErrNotSupported.
type putHook func(p *port, program *ebpf.Program, clsact bool) (hook, error)

// hook is a program in its place.
type hook interface {
	// target is the device to which bpf_redirect sends what leaves by the port, and the
	// flags.
	target() (ifindex int, flags uint32)
	// slow is the device, and its index, by which userspace receives the frames that
	// the program leaves to it. It is nil if they come by the port's own device.
	slow() (device, int)
	// keepFirst keeps the program before those of others.
	keepFirst(log *slog.Logger)
	// listen lets userspace receive all that comes in, as without a program, or not.
	listen(bool) error
	close() error
}

// attachment is a port with its program.
type attachment struct {
	port *port
	hook
	entry bpf.Port
}

// newPath makes the maps. hook puts a program on a port's device.
func newPath(o pathOptions, hook putHook) (*path, error) {
	if err := require(datapathCapabilities); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadBridge()
	if err != nil {
		return nil, fmt.Errorf("reading the BPF objects: %w", err)
	}
	k := &path{hook: hook, spec: spec, maps: make(map[string]*ebpf.Map), memory: make(map[string][]byte)}
	if err := k.makeMaps(o.maxFlows); err != nil {
		k.free()
		return nil, err
	}
	k.begin(o)
	return k, nil
}

// tryPath tells whether there can be a kernel data path here, by loading its maps and
// programs, which it unloads at once.
func tryPath(maxFlows int) error {
	k, err := newPath(pathOptions{
		maxFlows: maxFlows, open: new(openPorts), handshakes: new(handshakes),
		clock: func() int64 { return 0 }, log: slog.New(slog.DiscardHandler),
	}, nil)
	if err != nil {
		return err
	}
	defer k.close()
	for _, name := range []string{bpf.BridgeProgFromNic, bpf.BridgeProgFromVnic} {
		program, err := k.load(programKey{name: name})
		if err != nil {
			return err
		}
		_ = program.Close()
	}
	return nil
}

// begin makes empty maps those of a data path.
func (k *path) begin(o pathOptions) {
	k.pathOptions, k.done = o, make(chan struct{})
	k.ports.Store(new([bpf.MaxPorts]*attachment))
	k.plane.capacity.Store(uint32(recordsFor(o.maxFlows)))
	near, far := bucketsFor(o.maxFlows)
	k.plane.nearMask, k.plane.farMask = uint32(near-1), uint32(far-1)
	k.plane.tableKey = [2]uint64{rand.Uint64(), rand.Uint64()}
	k.plane.hashKey = [2]uint64{o.key.k0, o.key.k1}
	buckets := inMemory[bucket](k, bpf.BridgeMapBuckets)
	k.table = newFlowTable(tableMemory{
		keyTable: keyTable{
			near: buckets[:near], far: buckets[near:],
			records: inMemory[bpf.FlowRecord](k, bpf.BridgeMapRecords), secret: k.plane.tableKey,
		},
		answers: inMemory[flowTraffic](k, bpf.BridgeMapAnswers),
		meters:  inMemory[gauges](k, bpf.BridgeMapMeters),
		spare:   spareMap{k.maps[bpf.BridgeMapSpare]},
		counts:  tableCounts{&k.plane.flows, &k.plane.limit, &k.plane.fresh, &k.plane.quarantine},
		untils:  inMemory[atomic.Uint64](k, bpf.BridgeMapQuarantine),
	}, o.maxFlows, o.handshakes)
	k.rules = kernelRules{maps: k.maps, plane: k.plane, open: o.open}
	k.tick(o.clock())
}

// makeMaps makes the maps, and maps those that both sides change into this process. Four
// maps have the size of the flow table.
func (k *path) makeMaps(maxFlows int) error {
	if err := checkMemory(maxFlows); err != nil {
		return err
	}
	near, far := bucketsFor(maxFlows)
	records := recordsFor(maxFlows)
	for name, size := range map[string]int{
		bpf.BridgeMapBuckets: near + far, bpf.BridgeMapRecords: records,
		bpf.BridgeMapAnswers: records, bpf.BridgeMapSpare: records,
	} {
		k.spec.Maps[name].MaxEntries = uint32(size)
	}
	k.spec.Maps[bpf.Variables].Flags |= unix.BPF_F_MMAPABLE
	for _, name := range sortedKeys(k.spec.Maps) {
		if name == ".rodata" {
			continue // each program has its own
		}
		m, err := ebpf.NewMap(k.spec.Maps[name])
		if err != nil {
			return fmt.Errorf("making the BPF map %s for %d flows: %w", name, maxFlows, explainBPF(err))
		}
		k.maps[name] = m
	}
	for _, name := range []string{bpf.Variables, bpf.BridgeMapRecords, bpf.BridgeMapAnswers, bpf.BridgeMapMeters, bpf.BridgeMapBuckets, bpf.BridgeMapQuarantine} {
		mapped, err := memory(k.maps[name])
		if err != nil {
			return err
		}
		k.memory[name] = mapped
	}
	k.plane = &inMemory[planeState](k, bpf.Variables)[0] // the only one
	return nil
}

// inMemory returns the values of a map, which are a part of this process's memory.
func inMemory[T any](k *path, name string) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(k.memory[name]))), k.maps[name].MaxEntries())
}

func (k *path) flowTable() *flowTable { return k.table }

func (k *path) fits(maxFlows int) bool { return k.table.fits(maxFlows) }

func (k *path) attached(index uint32) *attachment { return k.ports.Load()[index] }

func (k *path) attach(p *port) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := &attachment{port: p}
	var err error
	if a.hook, err = k.hookUp(p); errors.Is(err, ebpf.ErrNotSupported) && !k.clsact {
		k.clsact = true
		k.running.Go(k.beat)
		a.hook, err = k.hookUp(p)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", p.name, err)
	}
	if err = k.refresh(a); err == nil && k.woken {
		err = a.listen(false)
	}
	if err != nil {
		return errors.Join(err, a.hook.close())
	}
	k.place(p.index, a)
	k.table.know(p)
	if slow, _ := a.slow(); slow != nil {
		k.running.Go(func() { k.carry(a, slow) })
	}
	return nil
}

func (k *path) hookUp(p *port) (hook, error) {
	key := programKey{bpf.BridgeProgFromVnic, p.index, k.clsact}
	if p.nic != nil {
		key.name = bpf.BridgeProgFromNic
	}
	program := k.programs[key]
	if program == nil {
		var err error
		if program, err = k.load(key); err != nil {
			return nil, err
		}
		if k.programs == nil {
			defer func() { _ = program.Close() }()
		} else {
			k.programs[key] = program
		}
	}
	return k.hook(p, program, k.clsact)
}

// programKey tells loaded programs apart.
type programKey struct {
	name   string
	index  uint32 // of its port: a constant of the program, which saves a lookup
	clsact bool
}

func (k *path) load(key programKey) (*ebpf.Program, error) {
	name := key.name
	spec := k.spec.Copy()
	if err := spec.Variables[bpf.BridgeVarSelf].Set(key.index); err != nil {
		return nil, err
	}
	if key.clsact {
		if err := spec.Variables[bpf.BridgeVarNeedsHeartbeat].Set(uint32(1)); err != nil {
			return nil, err
		}
	}
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	shared := make(map[string]*ebpf.Map)
	for name, m := range k.maps {
		shared[name] = m
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			k.log.Debug("the kernel refuses a BPF program", "log", fmt.Sprintf("%+v", verifier))
		}
		return nil, fmt.Errorf("loading the BPF program %s: %w", name, explainBPF(err))
	}
	defer collection.Close()
	return collection.DetachProgram(name), nil
}

// place lets an attachment be found by the index of its port.
func (k *path) place(index uint32, a *attachment) {
	ports := *k.ports.Load()
	ports[index] = a
	k.ports.Store(&ports)
}

// carry lets userspace carry what a program leaves to it.
func (k *path) carry(a *attachment, slow device) {
	err := k.run(a.port, slow)
	if k.attached(a.port.index) == a {
		k.log.Error("what the kernel leaves to userspace no longer arrives: reload, or restart", "device", a.port.name, "error", err)
	}
}

func (k *path) detach(p *port) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.attached(p.index)
	if a == nil {
		return
	}
	if err := k.maps[bpf.BridgeMapPorts].Put(p.index, bpf.Port{}); err != nil {
		k.log.Error("detaching a BPF program", "device", p.name, "error", err)
	}
	k.place(p.index, nil)
	if err := a.hook.close(); err != nil {
		k.log.Error("detaching a BPF program", "device", p.name, "error", err)
	}
	k.handOver(p)
}

// handOver adds what the programs counted at a port to the port's own counters, and clears
// the entry for the next port.
func (k *path) handOver(p *port) {
	p.counters.add(k.counters(p))
	if err := k.maps[bpf.BridgeMapCounts].Put(p.index, make([]bpf.Counters, ebpf.MustPossibleCPU())); err != nil {
		k.log.Error("clearing the counters of the BPF programs", "device", p.name, "error", err)
	}
}

// each calls a function with every attachment.
func (k *path) each(do func(*attachment)) {
	for _, a := range k.ports.Load() {
		if a != nil {
			do(a)
		}
	}
}

func (k *path) awake() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.woken = true
	k.plane.mode.Store(bpf.Fast)
	var errs []error
	k.each(func(a *attachment) { errs = append(errs, a.listen(false)) })
	return errors.Join(errs...)
}

func (k *path) drain() { k.plane.mode.Store(bpf.Slow) }

func (k *path) asleep() {
	k.each(func(a *attachment) {
		if err := a.listen(true); err != nil {
			k.log.Error("listening again", "device", a.port.name, "error", err)
		}
	})
	k.plane.mode.Store(bpf.Asleep)
}

// refresh tells the programs of a port, if something changed that they need to know.
func (k *path) refresh(a *attachment) error {
	entry := k.describe(a)
	if entry == a.entry {
		return nil
	}
	a.entry = entry
	if err := k.maps[bpf.BridgeMapPorts].Put(a.port.index, entry); err != nil {
		return fmt.Errorf("device %s: telling the BPF programs of it: %w", a.port.name, err)
	}
	return nil
}

func (k *path) describe(a *attachment) bpf.Port {
	p := a.port
	ifindex, flags := a.target()
	_, slow := a.slow()
	entry := bpf.Port{Ifindex: uint32(ifindex), Redirect: flags, Slow: uint32(slow), Mtu: uint32(p.linkMTU()), Mac: p.mac()}
	if p.vnic != nil {
		entry.Address = be32(p.vnic.address)
		return entry
	}
	gateway, mac := p.nic.link.router()
	entry.Nic = 1
	entry.Address = be32(p.nic.address)
	entry.Network = be32(addrOf(p.nic.network.Addr()))
	entry.Mask = be32(addrFrom4(net.CIDRMask(p.nic.network.Bits(), 32)))
	entry.Gateway, entry.GatewayMac = be32(gateway), mac
	return entry
}

func (k *path) refreshAll() {
	k.each(func(a *attachment) {
		if err := k.refresh(a); err != nil {
			k.log.Error("the kernel data path", "error", err)
		}
	})
}

func (k *path) setRules(r *ruleset) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refreshAll()
	k.putInForce(r)
}

// refreshPorts takes in that listeners opened or closed ports.
func (k *path) refreshPorts() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.putInForce(k.rules.current)
}

func (k *path) putInForce(r *ruleset) {
	if err := k.rules.set(r); err != nil {
		k.log.Error("the kernel data path takes no new flows: userspace does", "error", err)
	}
}

func (k *path) setNeighbour(nic *port, host addr, mac MAC) {
	key := bpf.NeighbourKey{Address: be32(host), Port: nic.index}
	m := k.maps[bpf.BridgeMapNeighbours]
	var err error
	if mac.IsZero() {
		if err = m.Delete(key); errors.Is(err, ebpf.ErrKeyNotExist) {
			err = nil
		}
	} else {
		err = m.Put(key, bpf.Neighbour{Mac: mac})
	}
	if err != nil {
		k.log.Error("telling the BPF programs of a neighbour", "address", host.netip(), "error", err)
	}
	if gateway, _ := nic.nic.link.router(); host != gateway {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refreshAll()
}

// neighbourBatch is how many neighbours are read with one system call.
const neighbourBatch = 4096

func (k *path) eachSentTo(nic *port, visit func(host addr, at int64)) {
	now, clock := k.clock(), k.plane.clock.Load()
	keys, values := make([]bpf.NeighbourKey, neighbourBatch), make([]bpf.Neighbour, neighbourBatch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := k.maps[bpf.BridgeMapNeighbours].BatchLookup(&cursor, keys, values, nil)
		for i, v := range values[:n] {
			if keys[i].Port == nic.index && v.Used != 0 {
				visit(addrFromBE32(keys[i].Address), now-int64(clock-v.Used)<<clockShift)
			}
		}
		if err != nil { // ErrKeyNotExist: those were the last
			return
		}
	}
}

// tick sets the programs' clock, and renews the number of packets that they may leave to
// userspace only to be refused.
func (k *path) tick(now int64) {
	k.plane.clock.Store(coarse(now))
	k.plane.refusals.Store(k.refusals)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refreshAll()
	k.rules.tidy()
	k.each(func(a *attachment) { a.keepFirst(k.log) })
}

func (k *path) counters(p *port) (sum counterValues) {
	var perCPU []bpf.Counters
	if err := k.maps[bpf.BridgeMapCounts].Lookup(p.index, &perCPU); err != nil {
		return sum
	}
	for _, c := range perCPU {
		sum.packetsIn += c.PacketsIn
		sum.packetsOut += c.PacketsOut
		sum.bytesIn += c.BytesIn
		sum.bytesOut += c.BytesOut
		sum.newFlows += c.NewFlows
		for reason := range sum.drops {
			sum.drops[reason] += c.Drops[reason]
		}
	}
	return sum
}

func (k *path) close() {
	k.vacate()
	k.free()
}

// vacate takes the programs off all ports.
func (k *path) vacate() {
	k.each(func(a *attachment) { k.detach(a.port) })
	close(k.done)
	k.running.Wait()
}

// free gives the kernel's memory back.
func (k *path) free() {
	for _, p := range k.programs {
		_ = p.Close()
	}
	for _, m := range k.memory {
		_ = unix.Munmap(m)
	}
	for _, m := range k.maps {
		_ = m.Close()
	}
}
