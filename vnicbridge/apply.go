package vnicbridge

import "slices"

// transition is the way from the configuration in force to another one. What can
// fail is done first, in prepare, and undone if it does; commit cannot fail.
type transition struct {
	p        *Plane
	cfg      *Config
	retained []*Config

	devices             // as they will be
	retired  devices    // the same
	made     []*port    // by prepare
	replaced []*segment // closed by prepare to make room for their successors
	rules    *ruleset
}

func (p *Plane) plan(cfg *Config, retained []*Config) *transition {
	return &transition{p: p, cfg: cfg, retained: retained, devices: newDevices(), retired: newDevices()}
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
	t.retire()
	if err := t.p.session.machine.guard(t.p.guards(t.devices, t.retired)); err != nil {
		return err
	}
	if err := t.acquireAddresses(); err != nil {
		return err
	}
	for _, name := range sortedKeys(t.segments) {
		if _, err := t.segments[name].dev.configure(settingsOf(t.cfg, name, t.bridges)); err != nil {
			return errorAt("segment", name, err)
		}
	}
	var err error
	t.rules, err = t.p.compile(t.cfg, t.devices, t.retired)
	return err
}

// vnicSpecOf is what the VNIC of a segment must be.
func vnicSpecOf(c *Config, name string) vnicSpec {
	s := c.Segments[name]
	iface := s.InterfaceName(name)
	return vnicSpec{name, iface, s.Addresses[0], s.hardwareAddr(iface), s.Netns}
}

// exclusive tells whether two VNICs cannot be there at once: one name, or networks
// that overlap, so that the kernel would take the one's way for the other's.
func exclusive(a, b vnicSpec) bool {
	return a.iface == b.iface || a.address.Masked().Overlaps(b.address.Masked())
}

// nicSpecOf is what the NIC of a bridge must be.
func nicSpecOf(c *Config, name string) nicSpec {
	return nicSpec{name, c.Bridges[name].NIC, c.Bridges[name].Addresses[0]}
}

// prepareSegment finds the VNIC of a segment among the living, or makes it.
func (t *transition) prepareSegment(name string) error {
	spec := vnicSpecOf(t.cfg, name)
	for _, living := range t.p.living() {
		if old := living.segments[name]; old != nil && old.spec == spec {
			t.segments[name] = old
			return nil
		}
	}
	for _, living := range t.p.living() {
		for _, old := range living.segments {
			if exclusive(old.spec, spec) && !old.port.closed.Load() {
				t.p.closePort(old.port)
				t.replaced = append(t.replaced, old)
			}
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

// prepareBridge finds the NIC of a bridge among the open ones, or opens it.
func (t *transition) prepareBridge(name string) error {
	spec := nicSpecOf(t.cfg, name)
	for _, living := range t.p.living() {
		if old := living.bridges[name]; old != nil && old.spec == spec {
			t.bridges[name] = old
			return nil
		}
	}
	b, err := t.p.openBridge(spec, t.cfg.Bridges[name].Gateway)
	if err != nil {
		return err
	}
	t.bridges[name] = b
	t.made = append(t.made, b.port)
	return nil
}

// retire keeps the devices that only retained configurations have.
func (t *transition) retire() {
	wanted := t.devices.ports()
	for _, cfg := range t.retained {
		for _, living := range t.p.living() {
			for name, s := range living.segments {
				if cfg.Segments[name] != nil && vnicSpecOf(cfg, name) == s.spec && !s.port.closed.Load() && !slices.Contains(wanted, s.port) {
					t.retired.segments[name] = s
				}
			}
			for name, b := range living.bridges {
				if cfg.Bridges[name] != nil && nicSpecOf(cfg, name) == b.spec && !slices.Contains(wanted, b.port) {
					t.retired.bridges[name] = b
				}
			}
		}
	}
}

// acquireAddresses takes the new bridges' pseudo addresses, all at once, and
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
			err := b.link.claim.acquire(t.cfg.Bridges[name].DAD != DADOff)
			if err == nil && !b.link.awaitGateway(t.p.now) {
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
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err != nil {
		return err
	}
	p.datapaths.setRules(rules)
	for name, s := range p.segments {
		if _, err := s.dev.configure(settingsOf(p.cfg, name, p.bridges)); err != nil {
			return err
		}
	}
	p.followHealth()
	return p.session.machine.guard(p.guards(p.devices, p.retired))
}

// commit puts the new configuration in force and removes what no configuration
// has any more.
func (t *transition) commit() {
	p := t.p
	for name, b := range t.bridges {
		b.link.setGateway(t.cfg.Bridges[name].Gateway)
	}
	p.path.setLimit(t.cfg.maxFlows())
	p.datapaths.setRules(t.rules)
	for _, s := range t.segments {
		if slices.Contains(t.made, s.port) {
			p.carry(s.port)
		}
	}
	kept := append(t.devices.ports(), t.retired.ports()...)
	for _, old := range append(p.devices.ports(), p.retired.ports()...) {
		if !slices.Contains(kept, old) && !old.closed.Load() {
			p.closePort(old)
		}
	}
	p.cfg, p.devices, p.retired = t.cfg, t.devices, t.retired
	p.forget(append([]*Config{t.cfg}, t.retained...))
	p.followHealth()
	p.begin()
}

// begin does at once what would be due at the next tick.
func (p *Plane) begin() {
	now := p.now()
	for name, b := range p.bridges {
		if !b.up {
			p.log.Warn("the NIC is down: nothing passes until it is up (ip link set "+b.spec.nic+" up)", "bridge", name)
		}
		b.link.tick(now)
	}
}

// guards says what the host's kernel must leave alone.
func (p *Plane) guards(all ...devices) guardSpec {
	var g guardSpec
	for _, d := range all {
		for _, name := range sortedKeys(d.segments) {
			s := d.segments[name]
			g.vnics = append(g.vnics, guardedVNIC{s.dev.index(), s.spec.address, s.spec.netns != ""})
		}
		for _, name := range sortedKeys(d.bridges) {
			b := d.bridges[name]
			g.nics = append(g.nics, b.dev.index())
			g.pseudo = append(g.pseudo, b.spec.address.Addr())
		}
	}
	return g
}
