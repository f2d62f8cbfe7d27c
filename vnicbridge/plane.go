package vnicbridge

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/capture"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/elector"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/health"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/loglimit"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Options are what a [Plane] needs from its surroundings.
type Options struct {
	// Log receives what happens: conflicts, devices that come and go. Default:
	// nothing is logged.
	Log *slog.Logger

	// Happened is told of events, in order. It is called with locks of the plane held: it
	// must neither wait nor call the plane. Default: nobody is told.
	Happened func(Event)

	// HashKey returns the secret of the hashes that spread clients over aliases and
	// segments, unless the configuration has a key. It is called when the plane starts, with the plane locked. Whoever knows
	// the secret can predict a client's alias and segment. If the secret changes, clients
	// move. If HashKey fails, the failure is logged and the secret is derived from the
	// machine's id. Default: the same, although every user of the machine can read the id.
	HashKey func() ([16]byte, error)

	// Predecessor returns the plane of the process that this one takes over from. It is called
	// when the plane starts, with the plane locked. Nil, or a nil result: there is none.
	Predecessor func() (Predecessor, error)

	// Kept tells whether somebody keeps the files of [Plane.Leavings]. Then [Plane.Leave] leaves the
	// devices as they are. It is called with the plane locked. Default: nobody does.
	Kept func() bool

	machine func() (machine, error) // default: newMachine
	dial    health.Dialer           // of health checks; default: net.Dialer's
}

// Plane is a data plane: the devices, the flow table, and the configuration that
// is in force. Its methods may be called from several goroutines at once.
type Plane struct {
	log     *slog.Logger    // what happens; rate-limited, because others may cause lines at any rate
	logged  *loglimit.Limit // of log
	acts    *slog.Logger    // what an admin has asked for; not limited
	path    *userspace.Forwarder
	open    rules.OpenPorts
	started time.Time
	secret  func() ([16]byte, error) // called at the start
	key     rules.Key                // derived from the secret; the configuration may have another for decisions

	datapaths dataPaths

	kick       chan struct{} // the aliases' MACs are out of date
	newMachine func() (machine, error)

	health   *health.Monitor
	dial     health.Dialer
	happened func(Event)

	captures *capture.Budget

	mu lockorder.Mutex[lockorder.Plane]

	session    *session       // nil before the first Apply and after Close
	cfg        *config.Config // in force; nil if none is
	devices                   // of the configuration in force
	retired    devices        // of older configurations that may come back
	overrides                 // of what the configuration in force says
	bans       bans
	roles      roles
	comesBack  func(*flow.Flow) bool // while the process ends: flows that the next one picks up
	obstacles  []string              // that were logged
	nearlyFull bool                  // the flow table, as was told last
	history    History               // without its time
	numbers    iface.Numbers         // of ifaces

	predecessor func() (Predecessor, error)
	heir        *heir       // while this plane takes over from a predecessor
	yielded     atomic.Bool // a successor has taken over, or will
	kept        func() bool
	arrangement atomic.Uint64
}

// session is a machine in use, and the goroutines that use it.
type session struct {
	machine machine
	stop    chan struct{}
	running sync.WaitGroup

	carriers sync.WaitGroup // those of running that read devices
}

// end stops the goroutines, waits for them, and closes the machine.
func (s *session) end() error {
	close(s.stop)
	err := s.machine.Close()
	s.running.Wait()
	return err
}

// New makes an empty data plane. It touches nothing; [Plane.Apply] does.
func New(options Options) *Plane {
	p := &Plane{started: time.Now(), kick: make(chan struct{}, 1), overrides: newOverrides(), captures: capture.NewBudget()}
	p.setLog(slog.DiscardHandler)
	if options.Log != nil {
		p.setLog(options.Log.Handler())
	}
	p.open.Changed = func() { p.datapaths.withKernelPath(kernelPath.RefreshPorts) }
	if p.newMachine = options.machine; p.newMachine == nil {
		p.newMachine = newMachine
	}
	if p.happened = options.Happened; p.happened == nil {
		p.happened = func(Event) {}
	}
	if p.secret = options.HashKey; p.secret == nil {
		p.secret = func() ([16]byte, error) { return machineSecret(), nil }
	}
	if p.predecessor = options.Predecessor; p.predecessor == nil {
		p.predecessor = noPredecessor
	}
	if p.kept = options.Kept; p.kept == nil {
		p.kept = func() bool { return false }
	}
	if p.dial = options.dial; p.dial == nil {
		p.dial = new(net.Dialer).DialContext
	}
	p.path = userspace.New(&p.open, &p.datapaths.denied, p.now)
	p.datapaths.forwarder = p.path
	p.roles.of, p.roles.heard = make(map[string]*role), make(map[fifoInstance]elector.State)
	p.roles.readers = make(map[string]*fifoReader)
	p.bans.datapaths = &p.datapaths
	p.bans.forget()
	p.watchHealth()
	return p
}

func (p *Plane) setLog(h slog.Handler) {
	limited := loglimit.NewHandler(h)
	p.log, p.logged, p.acts = slog.New(limited), limited.Limit, slog.New(h)
	p.datapaths.log = p.log
}

// now is the plane's clock: nanoseconds since the plane was made, monotonic.
func (p *Plane) now() int64 { return int64(time.Since(p.started)) }

// Apply puts a configuration in force: it makes the devices that are missing, removes those
// that are no longer wanted, and changes the rest in place. The flows of segments and
// bridges that stay are kept. The caller must not change the configuration afterwards.
//
// retained are older configurations that may come back. The segments and bridges that only
// they have keep their devices and established flows, and get no new flows.
//
// On error, the configuration before stays in force. The error says what to do, and is a
// [*config.Error] if it is about one segment or bridge.
func (p *Plane) Apply(cfg *config.Config, retained ...*config.Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	err := p.apply(cfg, retained)
	var idle *session
	if p.cfg == nil {
		idle = p.vacate()
	}
	p.mu.Unlock()
	if idle != nil {
		return errors.Join(err, idle.end())
	}
	return err
}

func (p *Plane) apply(cfg *config.Config, retained []*config.Config) error {
	if p.yielded.Load() {
		return ErrYielded
	}
	if err := p.start(); err != nil {
		return err
	}
	if err := p.releaseChanged(cfg); err != nil {
		return err
	}
	if err := p.session.machine.Check(cfg, p.ownVNICs(cfg)); err != nil {
		return err
	}
	err := p.whileBansStay(func() error { return p.datapaths.choose(cfg, p.ifaces(), p.newKernelPath) })
	if err != nil {
		return err
	}
	err = p.change(cfg, retained)
	if refused := (*attachError)(nil); errors.As(err, &refused) {
		err = p.whileBansStay(func() error { return p.datapaths.fallBack(cfg, p.ifaces(), refused) })
		if err == nil {
			err = p.change(cfg, retained)
		}
	}
	if err == nil && p.datapaths.waits {
		err = p.takeOver(cfg)
	}
	if err == nil {
		p.datapaths.report()
	}
	p.arrangement.Add(1)
	return err
}

// Arrangement returns a number that changes when the result of [Plane.Leavings] may have changed.
func (p *Plane) Arrangement() uint64 { return p.arrangement.Load() }

// whileBansStay changes the data path. No ban changes meanwhile, because the new one has to
// know them all.
func (p *Plane) whileBansStay(change func() error) error {
	p.bans.mu.Lock()
	defer p.bans.mu.Unlock()
	return change()
}

func (p *Plane) newKernelPath(maxFlows int, extras flow.Extras) (kernelPath, error) {
	return p.session.machine.newKernelPath(kernel.Options{
		MaxFlows: maxFlows, Extras: extras, Open: &p.open, Handshakes: p.path.Handshakes, Clock: p.now,
		Run: p.path.Run, Refusals: userspace.RefusalBurst, Log: p.log,
	})
}

// change puts another configuration in force. On error, the one before stays in force.
func (p *Plane) change(cfg *config.Config, retained []*config.Config) error {
	t := p.plan(cfg, retained)
	defer t.release()
	if err := t.prepare(); err != nil {
		t.undo()
		return err
	}
	t.commit()
	return nil
}

// ownVNICs returns the names of the VNICs that this plane has, or takes over under a
// configuration.
func (p *Plane) ownVNICs(cfg *config.Config) map[string]bool {
	own := make(map[string]bool)
	for name, s := range cfg.Segments {
		if p.inherited(segmentKey(name)) && !s.Remote() {
			own[s.InterfaceName(name)] = true
		}
	}
	for _, d := range p.living() {
		for _, s := range d.segments {
			if !s.spec.Remote {
				own[s.spec.Iface] = true
			}
		}
	}
	return own
}

// start opens the machine and begins to maintain it, if no session does.
func (p *Plane) start() error {
	if p.session != nil {
		return nil
	}
	m, err := p.newMachine()
	if err != nil {
		return err
	}
	if err := p.inherit(m); err != nil {
		return errors.Join(err, m.Close())
	}
	p.takeKey()
	s := &session{machine: m, stop: make(chan struct{})}
	s.running.Go(func() { p.maintain(m.Changes(), s.stop) })
	s.running.Go(func() { p.path.RunPacer(s.stop) })
	p.session = s
	return nil
}

// Close removes everything that the plane made: devices, routes, neighbours, and the rules in
// the packet filter. Both sides of each TCP connection get a RST. [Plane.Apply] can use the
// plane again. Closing twice is harmless.
func (p *Plane) Close() error { return p.shut(false) }

// Leave is [Plane.Close] for the end of a process that another one with the same
// configuration may follow. Connections that the next process will pick up get no RST. If the files
// of [Plane.Leavings] are kept, the kernel goes on carrying packets.
func (p *Plane) Leave() error { return p.shut(true) }

func (p *Plane) shut(leaving bool) error {
	p.mu.Lock()
	if p.heir != nil {
		p.heir.from.Resume()
	}
	if p.yielded.Load() || p.heir != nil { // another process has the devices
		p.mu.Unlock()
		return nil
	}
	p.leaveElections()
	if leaving && p.cfg != nil {
		p.comesBack = p.path.PickedUpBy(p.successorRules())
		if p.kept() {
			defer p.mu.Unlock()
			return p.leaveRemains()
		}
	}
	for _, ifc := range p.ifaces() {
		p.closeIface(ifc)
	}
	idle := p.vacate()
	p.mu.Unlock()
	if idle == nil {
		return nil
	}
	return idle.end()
}

// vacate empties the plane and returns its session, or nil. The caller ends the session
// without the plane's lock, because the session's goroutines may be waiting for the lock.
func (p *Plane) vacate() *session {
	s := p.session
	p.bans.mu.Lock()
	p.datapaths.end(p.ifaces())
	p.bans.mu.Unlock()
	p.session, p.cfg, p.devices, p.retired = nil, nil, devices{}, devices{}
	p.overrides.clear()
	p.bans.forget()
	p.comesBack = nil
	p.datapaths.setRules(&rules.Ruleset{})
	return s
}

// OpenPort lets clients reach a port of a segment until release is called, if the segment's
// configuration names no ports. A port that was opened twice needs two releases. The segment
// need not exist yet.
func (p *Plane) OpenPort(segment string, port config.PortRange) (release func()) {
	return p.open.Open(segment, port)
}

// SegmentAddr returns the address of a segment: the IPv4 address, if it has one. It returns
// false if the configuration in force does not have the segment.
func (p *Plane) SegmentAddr(name string) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.segments[name]
	if s == nil {
		return netip.Addr{}, false
	}
	return s.iface.First().VNIC.Address.Netip(), true
}

// In runs a function on a thread in the network namespace of a segment, where sockets of the
// segment are opened. Goroutines that the function starts are not in that namespace. The
// error is the function's, or says that the configuration in force does not have the segment.
func (p *Plane) In(segment string, f func() error) error {
	p.mu.Lock()
	s := p.segments[segment]
	known := config.SortedKeys(p.segments)
	p.mu.Unlock()
	if s == nil {
		return config.UnknownSegment(segment, known)
	}
	return s.dev.Do(f)
}

// Status returns a snapshot of the plane. It is the zero value if no configuration is in
// force.
func (p *Plane) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg == nil {
		return Status{}
	}
	// Who reads that a segment is healthy may rely on it: its rules are in force.
	if err := p.enforceHealth(); err != nil {
		p.log.Error("putting the health of segments in force", "error", err)
	}
	carrier := p.datapaths.state()
	s := Status{
		Datapath: carrier.datapath, DatapathReason: carrier.reason,
		Obstacles: slices.Clone(p.obstacles),
		Flows:     p.path.FlowCount(), MaxFlows: p.cfg.MaxFlowsOrDefault(), Bans: p.bans.count(),
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
	ports := slices.Clone(cfg.Ports)
	if ports == nil {
		ports = p.open.List(name)
	}
	return SegmentStatus{
		State: p.states[name], Health: healthStatus(p.health.Condition(seg.iface)),
		Weight: p.weight(p.cfg, name), ConfiguredWeight: cfg.WeightOrDefault(),
		Interface: seg.spec.Iface, Addresses: cfg.Addresses, MAC: seg.spec.MAC, Netns: seg.spec.Netns, Device: cfg.Device, Servers: seg.serverStatus(),
		Aliases: aliasesOf(cfg), Ports: ports,
		Limits: cfg.Limits, Refused: p.path.Refused(seg.iface), Egress: cfg.EgressOrDefault(), ClientIP: cmp.Or(cfg.ClientIP, config.Translate),
		Reach: cfg.Reach, Peers: p.peerAliases(name), Counters: p.count(seg.iface),
	}
}

// aliasesOf returns the aliases of a segment as ranges, one for each family.
func aliasesOf(s *config.Segment) (ranges []config.AddrRange) {
	for f := range config.Families {
		if r := aliasRange(s, f); !r.IsZero() {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// aliasRange returns the aliases of a segment of a family as a range. It is the zero value if the
// segment has none.
func aliasRange(s *config.Segment, f config.Family) (r config.AddrRange) {
	switch pool := s.AliasPool(f); {
	case config.DerivesAliases(s.Subnet(f)):
		return config.AddrRange{First: pool[0], Last: config.LastAddr(s.Subnet(f))}
	case len(pool) > 0:
		return config.AddrRange{First: pool[0], Last: pool[len(pool)-1]}
	}
	return r
}

// peerAliases returns the aliases of a segment's peers, those of IPv4 first.
func (p *Plane) peerAliases(segment string) map[string][]netip.Addr {
	aliases := make(map[string][]netip.Addr)
	for f := range config.Families {
		for peer, alias := range p.cfg.PeerAliases(segment, f) {
			aliases[peer] = append(aliases[peer], alias)
		}
	}
	return aliases
}

func (p *Plane) bridgeStatus(name string, b *bridge) BridgeStatus {
	cfg := p.cfg.Bridges[name]
	var gateways []GatewayStatus
	for _, gateway := range cfg.Gateways {
		link := b.links[config.FamilyOf(gateway)]
		mac, _ := link.Lookup(gateway)
		gateways = append(gateways, GatewayStatus{gateway, mac, link.Table().GatewaySilent()})
	}
	status := BridgeStatus{
		NIC: b.spec.nic, Up: b.up.Load(), MAC: b.iface.MAC(), Addresses: cfg.Addresses, Gateways: gateways,
		Steer: cfg.Rules(), Policy: cfg.LBPolicy, SwitchedTo: p.switched(p.cfg, name),
		OnNoSegment: cmp.Or(cfg.OnNoSegment, config.Reject), Candidates: p.candidates(name),
		Conflicts:   b.conflicts.Load(),
		FlowsByName: p.path.FlowsByName(b.iface), Counters: p.count(b.iface),
	}
	p.roles.describe(name, cfg, &status)
	return status
}

// errorAt names the segment or the bridge that an error is about, unless the error does.
func errorAt(part, name string, err error) error {
	var located *config.Error
	if errors.As(err, &located) {
		return err
	}
	return &config.Error{Part: part, Name: name, Err: err}
}
