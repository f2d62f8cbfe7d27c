package vnicbridge

import (
	"maps"
	"slices"
)

// transition is the way from the configuration in force to another one. What can
// fail is done first, in prepare, and undone if it does; commit cannot fail.
type transition struct {
	p   *Plane
	cfg *Config

	segments map[string]*segment // as they will be
	bridges  map[string]*bridge
	made     []*port    // by prepare
	replaced []*segment // closed by prepare to make room for their successors
	rules    *ruleset
}

func (p *Plane) plan(cfg *Config) *transition {
	return &transition{p: p, cfg: cfg, segments: make(map[string]*segment), bridges: make(map[string]*bridge)}
}

func (t *transition) prepare() error {
	for _, name := range sortedKeys(t.cfg.Segments) {
		if err := t.prepareSegment(name); err != nil {
			return errorAt("segment", name, err)
		}
	}
	for _, name := range sortedKeys(t.cfg.Bridges) {
		if err := t.prepareBridge(name); err != nil {
			return errorAt("bridge", name, err)
		}
	}
	if err := t.p.session.machine.guard(guardOf(t.segments, t.bridges)); err != nil {
		return err
	}
	if err := t.acquireAddresses(); err != nil {
		return err
	}
	if err := t.prepareVNICs(); err != nil {
		return err
	}
	var err error
	t.rules, err = t.p.compile(t.cfg, t.segments, t.bridges)
	return err
}

func (t *transition) prepareSegment(name string) error {
	cfg := t.cfg.Segments[name]
	iface := cfg.InterfaceName(name)
	spec := vnicSpec{name, iface, cfg.Addresses[0], cfg.hardwareAddr(iface)}
	if old := t.p.segments[name]; old != nil && old.spec == spec {
		t.segments[name] = old
		return nil
	}
	for _, old := range t.p.segments {
		if old.spec.iface == iface {
			t.p.closePort(old.port)
			t.replaced = append(t.replaced, old)
		}
	}
	s, err := t.p.makeSegment(spec)
	if err != nil {
		return err
	}
	t.segments[name] = s
	t.made = append(t.made, s.port)
	return nil
}

func (p *Plane) makeSegment(spec vnicSpec) (*segment, error) {
	dev, err := p.session.machine.makeVNIC(spec)
	if err != nil {
		return nil, err
	}
	port := p.newPort(spec.iface, dev, spec.mac)
	port.vnic = &vnicSide{segment: spec.segment, address: addrOf(spec.address.Addr())}
	return &segment{spec, dev, port}, nil
}

func (t *transition) prepareBridge(name string) error {
	cfg := t.cfg.Bridges[name]
	spec := nicSpec{name, cfg.NIC, cfg.Addresses[0]}
	if old := t.p.bridges[name]; old != nil && old.spec == spec {
		t.bridges[name] = old
		return nil
	}
	dev, err := t.p.session.machine.openNIC(spec.nic, spec.address.Addr())
	if err != nil {
		return err
	}
	state := dev.link()
	port := t.p.newPort(spec.nic, dev, state.mac)
	port.mtu.Store(int32(state.mtu))
	t.p.attachNIC(port, spec)
	port.nic.neighbours.setGateway(cfg.Gateway)
	t.bridges[name] = &bridge{spec: spec, port: port, up: state.up}
	t.made = append(t.made, port)
	return nil
}

// attachNIC gives a port what a NIC needs to speak for the pseudo address.
func (p *Plane) attachNIC(port *port, spec nicSpec) {
	address := addrOf(spec.address.Addr())
	claim := newAddressClaim(address, port.mac, port.transmit, p.log.With("bridge", spec.bridge, "nic", spec.nic))
	port.nic = &nicSide{
		address: address,
		claim:   claim,
		neighbours: &neighbours{
			link:    spec.address.Masked(),
			entries: make(map[addr]*neighbour),
			send:    port.transmit,
			learned: p.neighbourLearned,
			gaveUp:  func(n int) { port.drops[dropUnresolved].Add(uint64(n)) },
			ask: func(target addr, to MAC) {
				port.transmit([]frame{claim.request(address, target, to)})
			},
		},
	}
}

// prepareVNICs sets what depends on the bridges: MTU and neighbours.
func (t *transition) prepareVNICs() error {
	for name, s := range t.segments {
		if err := s.dev.setMTU(t.cfg.mtuOf(name, t.bridges)); err != nil {
			return errorAt("segment", name, err)
		}
		if err := s.dev.setNeighbours(t.cfg.aliasMACs(name, t.bridges)); err != nil {
			return errorAt("segment", name, err)
		}
	}
	return nil
}

// acquireAddresses probes for the new bridges' pseudo addresses, all at once, and
// then asks for their gateways, so that the first packet finds its way.
func (t *transition) acquireAddresses() error {
	type result struct {
		name string
		err  error
	}
	results := make(chan result)
	probing := 0
	for name, b := range t.bridges {
		if !slices.Contains(t.made, b.port) {
			continue
		}
		probing++
		t.p.carry(b.port)
		go func() {
			err := b.port.nic.claim.acquire()
			if err == nil && !b.port.nic.neighbours.awaitGateway(t.p.now) {
				t.p.log.Warn("the gateway does not answer ARP", "bridge", name, "gateway", t.cfg.Bridges[name].Gateway)
			}
			results <- result{name, err}
		}()
	}
	var failed error
	for range probing {
		if r := <-results; r.err != nil {
			failed = errorAt("bridge", r.name, r.err)
		}
	}
	return failed
}

// undo removes what prepare made and puts back what it took away.
func (t *transition) undo() {
	for _, port := range t.made {
		t.p.closePort(port)
	}
	for _, old := range t.replaced {
		again, err := t.p.makeSegment(old.spec)
		if err != nil {
			t.p.log.Error("a segment could not be made again after a failed reload", "segment", old.spec.segment, "error", err)
			continue
		}
		*old = *again
		t.p.carry(old.port)
	}
	if t.p.cfg == nil {
		return
	}
	if err := t.p.reinstate(); err != nil {
		t.p.log.Error("the configuration in force could not be put back whole after a failed reload", "error", err)
	}
}

// reinstate sets all that a failed transition may have changed to what the
// configuration in force says.
func (p *Plane) reinstate() error {
	rules, err := p.compile(p.cfg, p.segments, p.bridges)
	if err != nil {
		return err
	}
	p.forward.rules.Store(rules)
	p.refreshMTUs()
	for name, s := range p.segments {
		if err := s.dev.setNeighbours(p.cfg.aliasMACs(name, p.bridges)); err != nil {
			return err
		}
	}
	return p.session.machine.guard(guardOf(p.segments, p.bridges))
}

// commit puts the new configuration in force and removes what it no longer has.
func (t *transition) commit() {
	p := t.p
	for _, name := range sortedKeys(t.cfg.Bridges) {
		t.bridges[name].port.nic.neighbours.setGateway(t.cfg.Bridges[name].Gateway)
	}
	p.forward.flows.setLimit(t.cfg.maxFlows())
	p.forward.rules.Store(t.rules)
	for _, s := range t.segments {
		if slices.Contains(t.made, s.port) {
			p.carry(s.port)
		}
	}
	for name, old := range p.bridges {
		if t.bridges[name] != old {
			p.closePort(old.port)
		}
	}
	for name, old := range p.segments {
		if t.segments[name] != old && !old.port.closed.Load() {
			p.closePort(old.port)
		}
	}
	p.cfg, p.segments, p.bridges = t.cfg, t.segments, t.bridges
	maps.DeleteFunc(p.states, func(name string, _ State) bool { return p.segments[name] == nil })
	for name, b := range p.bridges {
		if !b.up {
			p.log.Warn("the NIC is down: nothing passes until it is up (ip link set "+b.spec.nic+" up)", "bridge", name)
		}
	}
	now := p.now()
	for _, b := range p.bridges {
		b.port.nic.claim.tick(now)
		b.port.nic.neighbours.tick(now)
	}
}

func guardOf(segments map[string]*segment, bridges map[string]*bridge) guardSpec {
	var g guardSpec
	for _, name := range sortedKeys(segments) {
		g.vnics = append(g.vnics, segments[name].spec)
	}
	for _, name := range sortedKeys(bridges) {
		spec := bridges[name].spec
		g.nics = append(g.nics, guardedNIC{spec.nic, spec.address.Addr()})
	}
	return g
}
