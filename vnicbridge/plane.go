package vnicbridge

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what a [Plane] needs from its surroundings.
type Options struct {
	// Log receives what happens: conflicts, devices that come and go. Default:
	// nothing is logged.
	Log *slog.Logger

	machine func() (machine, error) // default: newMachine
}

// Plane is a data plane: the devices, the flow table, and the configuration that
// is in force. Its methods may be called from several goroutines at once.
type Plane struct {
	log     *slog.Logger
	forward *forwarder
	open    openPorts
	started time.Time
	key     hashKey // of the hashes that spread clients over aliases and segments

	kick       chan struct{} // the aliases' MACs are out of date
	newMachine func() (machine, error)

	mu       sync.Mutex
	session  *session // nil before the first Apply and after Close
	cfg      *Config  // in force; nil if none is
	segments map[string]*segment
	bridges  map[string]*bridge
	states   map[string]State // of segments, where it is not Active
	ports    uint16           // the last index given
}

// session is a machine in use, and the goroutines that use it.
type session struct {
	machine machine
	stop    chan struct{}
	running sync.WaitGroup
}

// end waits for the goroutines and gives the machine back.
func (s *session) end() error {
	close(s.stop)
	err := s.machine.close()
	s.running.Wait()
	return err
}

// segment is a configured segment with its living VNIC.
type segment struct {
	spec vnicSpec
	dev  vnicDevice
	port *port
}

// bridge is a configured bridge with its open NIC.
type bridge struct {
	spec nicSpec
	port *port
	up   bool
	turn atomic.Uint32 // of its policy, if that goes in turn
}

// nicSpec is what makes one open NIC different from another.
type nicSpec struct {
	bridge, nic string
	address     netip.Prefix
}

// New makes an empty data plane. It touches nothing; [Plane.Apply] does.
func New(options Options) *Plane {
	p := &Plane{log: options.Log, started: time.Now(), key: machineKey(), kick: make(chan struct{}, 1), states: make(map[string]State)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.newMachine = options.machine; p.newMachine == nil {
		p.newMachine = newMachine
	}
	p.forward = &forwarder{
		flows: newFlowTable(DefaultMaxFlows), fragments: newFragmentTable(),
		open: &p.open, clock: p.now, refuse: newRefuser(),
	}
	p.forward.rules.Store(&ruleset{})
	return p
}

// now is the plane's clock: nanoseconds since it was made, monotonic.
func (p *Plane) now() int64 { return int64(time.Since(p.started)) }

// machineKey is a secret of the machine, so that the spreading of clients over
// aliases and segments cannot be foreseen from outside, and is the same at every
// start (A5).
// Without a machine id (a bare container) the host's name stands in.
func machineKey() hashKey {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		name, _ := os.Hostname()
		id = []byte(name)
	}
	sum := sha256.Sum256(append([]byte("caddy-vnic "), id...))
	return hashKey{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// Apply puts a configuration in force: it makes the devices that are missing,
// removes those that are no longer wanted, and changes the rest in place; flows of
// what stays are kept. The configuration must not be changed afterwards.
//
// On error, what was in force stays in force. The error is a [*ConfigError] where
// it is about one segment or bridge; it says what to do.
func (p *Plane) Apply(cfg *Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Datapath == DatapathKernel {
		return &ConfigError{Err: errors.New("datapath kernel: this version carries packets in userspace only: use auto or userspace")}
	}
	p.mu.Lock()
	err := p.apply(cfg)
	var idle *session
	if p.cfg == nil {
		idle = p.detach()
	}
	p.mu.Unlock()
	if idle != nil {
		return errors.Join(err, idle.end())
	}
	return err
}

func (p *Plane) apply(cfg *Config) error {
	if err := p.start(); err != nil {
		return err
	}
	own := make(map[string]bool)
	for _, s := range p.segments {
		own[s.spec.iface] = true
	}
	if err := p.session.machine.check(cfg, own); err != nil {
		return err
	}
	t := p.plan(cfg)
	if err := t.prepare(); err != nil {
		t.undo()
		return err
	}
	t.commit()
	return nil
}

// start opens the machine, at the first Apply.
func (p *Plane) start() error {
	if p.session != nil {
		return nil
	}
	m, err := p.newMachine()
	if err != nil {
		return err
	}
	s := &session{machine: m, stop: make(chan struct{})}
	s.running.Go(func() { p.maintain(m.changes(), s.stop) })
	p.session = s
	return nil
}

// Close removes all that the plane made: devices, routes, neighbours, packet
// filter. The plane can be used again by [Plane.Apply]. Closing it twice is
// harmless.
func (p *Plane) Close() error {
	p.mu.Lock()
	for _, b := range p.bridges {
		p.closePort(b.port)
	}
	for _, s := range p.segments {
		p.closePort(s.port)
	}
	idle := p.detach()
	p.mu.Unlock()
	if idle == nil {
		return nil
	}
	return idle.end()
}

// detach leaves the plane empty and returns what is to be ended without the lock,
// for which its goroutines may be waiting.
func (p *Plane) detach() *session {
	s := p.session
	p.session, p.cfg, p.segments, p.bridges = nil, nil, nil, nil
	clear(p.states)
	p.forward.rules.Store(&ruleset{})
	return s
}

// closePort ends a device and the flows by it, of which both sides are told.
func (p *Plane) closePort(gone *port) {
	gone.closed.Store(true)
	p.forward.end(func(f *flow) bool { return f.in == gone || f.out == gone })
	if err := gone.dev.close(); err != nil {
		p.log.Error("closing a device", "device", gone.name, "error", err)
	}
}

// newPort gives a device its place.
func (p *Plane) newPort(name string, dev device, mac MAC) *port {
	p.ports++
	port := &port{index: p.ports, name: name, dev: dev}
	port.setMAC(mac)
	return port
}

// carry runs the forwarder on a port for as long as its device lives.
func (p *Plane) carry(port *port) {
	p.session.running.Go(func() {
		err := p.forward.run(port)
		if !port.closed.Load() {
			p.log.Error("a device failed: no more traffic passes by it until the next reload", "device", port.name, "error", err)
		}
	})
}

// OpenPort lets a port of a segment be entered until release is called, if the
// segment's configuration names no ports. It is counted: a port that was opened
// twice needs two releases. The segment need not exist yet.
func (p *Plane) OpenPort(segment string, port PortRange) (release func()) {
	return p.open.open(segment, port)
}

// SegmentAddr returns the address of a segment that is in force.
func (p *Plane) SegmentAddr(name string) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.segments[name]
	if s == nil {
		return netip.Addr{}, false
	}
	return s.spec.address.Addr(), true
}

// Client returns the real remote end of a connection that a server on a segment
// sees as coming from an alias. local and remote are the server socket's own
// view. ok is false when no flow is known, as for a connection from this host.
func (p *Plane) Client(proto Protocol, local, remote netip.AddrPort) (client netip.AddrPort, ok bool) {
	// The server's view is the tuple of its answers.
	answer := tuple{
		src: addrOf(local.Addr()), dst: addrOf(remote.Addr()),
		sport: local.Port(), dport: remote.Port(), proto: proto,
	}
	for vnic := range p.forward.rules.Load().segments {
		if f, dir := p.forward.flows.lookup(flowKey{answer, vnic.index}); f != nil && dir == reverse {
			return netip.AddrPortFrom(f.orig.src.netip(), f.orig.sport), true
		}
	}
	return netip.AddrPort{}, false
}

// Alias is the reverse of [Plane.Client]: the alias and port by which a server
// socket at local answers a client. It is for UDP servers, which send to the
// address that they were shown.
func (p *Plane) Alias(proto Protocol, local, client netip.AddrPort) (alias netip.AddrPort, ok bool) {
	for nic := range p.forward.rules.Load().bridges {
		question := tuple{
			src: addrOf(client.Addr()), dst: nic.nic.address,
			sport: client.Port(), dport: local.Port(), proto: proto,
		}
		f, dir := p.forward.flows.lookup(flowKey{question, nic.index})
		if f != nil && dir == forward && f.reply.src == addrOf(local.Addr()) {
			return netip.AddrPortFrom(f.reply.dst.netip(), f.reply.dport), true
		}
	}
	return netip.AddrPort{}, false
}

// Status returns what the plane is and what it did.
func (p *Plane) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Datapath: DatapathUserspace,
		Flows:    p.forward.flows.len(), MaxFlows: p.forward.flows.limit(),
		Segments: make(map[string]SegmentStatus), Bridges: make(map[string]BridgeStatus),
	}
	for name, seg := range p.segments {
		s.Segments[name] = p.segmentStatus(name, seg)
	}
	for name, b := range p.bridges {
		s.Bridges[name] = p.bridgeStatus(name, b)
	}
	return s
}

func (p *Plane) segmentStatus(name string, seg *segment) SegmentStatus {
	cfg := p.cfg.Segments[name]
	pool := cfg.aliasPool()
	ports := slices.Clone(cfg.Ports)
	if ports == nil {
		ports = p.open.list(name)
	}
	return SegmentStatus{
		State: p.states[name], Interface: seg.spec.iface, Addresses: cfg.Addresses, MAC: seg.spec.mac,
		Aliases: AddrRange{pool[0], pool[len(pool)-1]}, Ports: ports, Egress: cfg.egress(),
		Counters: seg.port.snapshot(),
	}
}

func (p *Plane) bridgeStatus(name string, b *bridge) BridgeStatus {
	cfg := p.cfg.Bridges[name]
	gatewayMAC, _ := b.port.nic.neighbours.lookup(cfg.Gateway)
	return BridgeStatus{
		NIC: b.spec.nic, Up: b.up, MAC: b.port.mac(), Addresses: cfg.Addresses,
		Gateway: cfg.Gateway, GatewayMAC: gatewayMAC, Policy: cfg.LBPolicy,
		Counters: b.port.snapshot(),
	}
}

// maintainInterval is how often the plane looks at what time asks for.
const maintainInterval = 250 * time.Millisecond

// maintain does what time and the machine ask for: idle flows end, next hops are
// kept resolved, the pseudo addresses announced, NICs followed.
func (p *Plane) maintain(changes <-chan change, stop <-chan struct{}) {
	ticker := time.NewTicker(maintainInterval)
	defer ticker.Stop()
	last := p.now()
	for {
		select {
		case <-stop:
			return
		case c := <-changes:
			p.change(c)
		case <-p.kick:
			p.refreshNeighbours()
		case <-ticker.C:
			now := p.now()
			p.forward.tick(now, time.Duration(now-last))
			last = now
			for nic := range p.forward.rules.Load().bridges {
				nic.nic.claim.tick(now)
				nic.nic.neighbours.tick(now)
			}
		}
	}
}

// change follows what happens to NICs and to the host's addresses.
func (p *Plane) change(c change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg == nil {
		return
	}
	if c.nic == "" {
		p.refreshSources()
		return
	}
	for name, b := range p.bridges {
		if b.spec.nic == c.nic {
			p.nicChanged(name, b, c.state)
		}
	}
}

func (p *Plane) nicChanged(name string, b *bridge, state linkState) {
	if state.up && !state.mac.IsZero() && state.mac != b.port.mac() {
		p.log.Info("the NIC has a new MAC", "bridge", name, "nic", b.spec.nic, "mac", state.mac)
		b.port.setMAC(state.mac)
		b.port.nic.claim.announce()
	}
	if state.up != b.up {
		p.log.Info("the NIC changed", "bridge", name, "nic", b.spec.nic, "up", state.up)
		if state.up {
			b.port.nic.claim.announce()
		}
	}
	b.up = state.up
	if mtu := int32(state.mtu); mtu > 0 && b.port.mtu.Swap(mtu) != mtu {
		p.refreshMTUs()
	}
}

// neighbourLearned is called when a next hop's MAC is new: the segments' aliases
// follow the gateway's.
func (p *Plane) neighbourLearned(ip netip.Addr, mac MAC) {
	p.log.Debug("resolved", "address", ip, "mac", mac)
	select {
	case p.kick <- struct{}{}:
	default: // it is due already
	}
}

// refreshNeighbours gives the aliases the MACs of the hosts behind them.
func (p *Plane) refreshNeighbours() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, s := range p.segments {
		if err := s.dev.setNeighbours(p.cfg.aliasMACs(name, p.bridges)); err != nil {
			p.log.Error("keeping the neighbours of a VNIC", "error", err)
		}
	}
}

func (p *Plane) refreshMTUs() {
	for name, s := range p.segments {
		if err := s.dev.setMTU(p.cfg.mtuOf(name, p.bridges)); err != nil {
			p.log.Error("keeping the MTU of a VNIC", "error", err)
		}
	}
}

// refreshSources compiles again which sources nobody outside can have.
func (p *Plane) refreshSources() {
	impossible, err := p.impossibleSources(p.cfg, p.segments)
	if err != nil {
		p.log.Error("reading the host's addresses", "error", err)
		return
	}
	rules := *p.forward.rules.Load()
	rules.impossible = impossible
	p.forward.rules.Store(&rules)
}

// errorAt says where an error belongs.
func errorAt(part, name string, err error) error {
	var located *ConfigError
	if errors.As(err, &located) {
		return err
	}
	return &ConfigError{part, name, err}
}
