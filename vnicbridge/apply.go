package vnicbridge

import (
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// transition changes the configuration in force to another one. prepare does everything
// that can fail, and if it fails, undo reverses it. commit cannot fail.
type transition struct {
	p        *Plane
	cfg      *config.Config
	retained []*config.Config

	devices                 // of cfg
	retired  devices        // of the retained configurations alone
	made     []*iface.Iface // by prepare
	claimed  []*bridge      // that were unclaimed, and neither fail over nor are announced now
	replaced []*segment     // closed by prepare to make room for their successors
	kept     []func() error // release the network namespaces of the replaced
	rules    *rules.Ruleset
}

func (p *Plane) plan(cfg *config.Config, retained []*config.Config) *transition {
	return &transition{p: p, cfg: cfg, retained: retained, devices: newDevices(), retired: newDevices()}
}

func (t *transition) prepare() error {
	for _, name := range config.SortedKeys(t.cfg.Bridges) {
		if err := t.prepareBridge(name); err != nil {
			return errorAt("bridge", name, err)
		}
	}
	acquired, err := t.acquireAddresses()
	if err != nil {
		return err
	}
	if err = t.makeFIFOs(); err == nil {
		err = t.prepareRest()
	}
	if failed := acquired(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	for _, name := range config.SortedKeys(t.segments) {
		if t.p.awaits(t.segments[name].iface) {
			continue // it is as the predecessor, which knows the gateway, wants it
		}
		if _, err := t.segments[name].dev.Configure(t.p.settingsOf(t.cfg, name, t.bridges)); err != nil {
			return errorAt("segment", name, err)
		}
	}
	t.rules, err = t.p.compile(t.cfg, t.devices, t.retired)
	return err
}

// makeFIFOs makes the FIFOs of electors.
func (t *transition) makeFIFOs() error {
	for _, name := range config.SortedKeys(t.bridges) {
		if f, ok := t.cfg.FailoverOf(name); ok {
			if err := t.p.session.machine.MakeFIFO(f.FIFO); err != nil {
				return errorAt("bridge", name, err)
			}
		}
	}
	return nil
}

// prepareRest prepares everything that the bridges do not need while their addresses are claimed:
// the kernel takes its time to check a program for each device.
func (t *transition) prepareRest() error {
	for name, b := range t.bridges {
		if !slices.Contains(t.made, b.iface) {
			continue
		}
		if err := t.p.datapaths.attach(b.iface); err != nil {
			return errorAt("bridge", name, err)
		}
		if t.unclaimed(name) {
			t.p.beUnclaimed(b, t.cfg) // also according to the flow table
		}
	}
	for _, name := range config.SortedKeys(t.cfg.Segments) {
		if err := t.prepareSegment(name); err != nil {
			return errorAt("segment", name, err)
		}
	}
	t.retire()
	if err := t.p.bans.follow(configuredBans(t.cfg), t.devices); err != nil {
		return err
	}
	return t.p.session.machine.Guard(t.p.guards(t.devices, t.retired))
}

// vnicSpecOf returns what the VNIC of a segment must be, or the device in its place.
func (p *Plane) vnicSpecOf(c *config.Config, name string) host.VNICSpec {
	s := c.Segments[name]
	iface := s.InterfaceName(name)
	spec := host.VNICSpec{Segment: name, Iface: iface, Addresses: byFamily(s.Address), MAC: s.HardwareAddr(iface), Netns: s.Netns, Remote: s.Remote()}
	if s.Remote() && s.MAC.IsZero() {
		spec.MAC = p.keyOf(c).MAC(deviceUse(c, name))
	}
	return spec
}

// deviceUse is what the bridge's MAC behind a segment's device is derived for. It is the same on all
// machines of which one has the pseudo address, so that a takeover changes no neighbour. Machines
// that announce it at the same time have aliases of their own, and so MACs of their own.
func deviceUse(c *config.Config, segment string) string {
	use, s := "device of segment "+segment, c.Segments[segment]
	announced := slices.ContainsFunc(c.BridgesOf(segment), func(b string) bool { return c.Bridges[b].Announce != nil })
	if announced && !s.Aliases.IsZero() {
		use += " with aliases " + s.Aliases.String()
	}
	return use
}

// exclusive tells whether two VNICs cannot exist at the same time: they have the same name,
// or their networks overlap, so that the kernel could route packets of one to the other.
func exclusive(a, b host.VNICSpec) bool {
	for f := range config.Families {
		if a.Addresses[f].Masked().Overlaps(b.Addresses[f].Masked()) {
			return true
		}
	}
	return a.Iface == b.Iface
}

// byFamily returns what a function has for each family.
func byFamily[T any](of func(config.Family) T) (all [config.Families]T) {
	for f := range config.Families {
		all[f] = of(f)
	}
	return all
}

// nicSpecOf returns what the NIC of a bridge must be.
func nicSpecOf(c *config.Config, name string) nicSpec {
	b := c.Bridges[name]
	return nicSpec{bridge: name, nic: b.NIC, addresses: byFamily(b.Address), linkLocal: b.LinkLocal}
}

// prepareSegment finds the VNIC of a segment among the living ones, or makes it. Before
// that, it closes the living VNICs that cannot exist at the same time.
func (t *transition) prepareSegment(name string) error {
	spec := t.p.vnicSpecOf(t.cfg, name)
	for _, living := range t.p.living() {
		if old := living.segments[name]; old != nil && old.spec == spec {
			t.segments[name] = old
			return nil
		}
	}
	for _, living := range t.p.living() {
		for _, old := range living.segments {
			if exclusive(old.spec, spec) && !old.iface.Closed.Load() {
				t.kept = append(t.kept, t.p.session.machine.KeepNetns(old.spec.Netns))
				t.p.closeIface(old.iface)
				t.replaced = append(t.replaced, old)
			}
		}
	}
	s, err := t.p.makeSegment(spec)
	if err != nil {
		return err
	}
	t.segments[name] = s
	t.made = append(t.made, s.iface)
	return nil
}

// prepareBridge finds the NIC of a bridge among the open NICs, or opens it.
func (t *transition) prepareBridge(name string) error {
	spec := nicSpecOf(t.cfg, name)
	for _, living := range t.p.living() {
		if old := living.bridges[name]; old != nil && old.spec == spec {
			t.bridges[name] = old
			return nil
		}
	}
	b, err := t.p.openBridge(spec, byFamily(t.cfg.Bridges[name].Gateway))
	if err != nil {
		return err
	}
	t.bridges[name] = b
	t.made = append(t.made, b.iface)
	if t.unclaimed(name) {
		t.p.beUnclaimed(b, t.cfg)
	}
	return nil
}

// unclaimed tells whether a bridge begins in silence about its addresses: its elector says when it
// has them, or routers know where they are.
func (t *transition) unclaimed(name string) bool { return voiceOf(t.cfg, name) != nil }

// retire keeps the devices that only the retained configurations have.
func (t *transition) retire() {
	wanted := t.devices.ifaces()
	for _, cfg := range t.retained {
		for _, living := range t.p.living() {
			for name, s := range living.segments {
				if cfg.Segments[name] != nil && t.p.vnicSpecOf(cfg, name) == s.spec && !s.iface.Closed.Load() && !slices.Contains(wanted, s.iface) {
					t.retired.segments[name] = s
				}
			}
			for name, b := range living.bridges {
				if cfg.Bridges[name] != nil && nicSpecOf(cfg, name) == b.spec && !slices.Contains(wanted, b.iface) {
					t.retired.bridges[name] = b
				}
			}
		}
	}
}

// acquireAddresses begins to claim the pseudo addresses of the new bridges, all at the same time,
// and then to resolve their gateways, so that the first packet need not wait. Both take time, in
// which the VNICs are made. acquired waits for the result.
func (t *transition) acquireAddresses() (acquired func() error, err error) {
	// The host's kernel must not act on what comes for an address that is claimed.
	if err := t.p.session.machine.Guard(t.p.guards(append(t.p.living(), t.devices)...)); err != nil {
		return nil, err
	}
	var claims errgroup.Group
	for name, b := range t.bridges {
		made := slices.Contains(t.made, b.iface)
		if t.p.awaits(b.iface) || !made && (t.unclaimed(name) || !b.iface.Unclaimed()) {
			continue
		}
		if made {
			t.p.carry(b.iface)
		}
		if t.unclaimed(name) {
			b.announce() // to take frames to its groups; it says nothing
			continue
		}
		if !made {
			t.claimed = append(t.claimed, b)
			b.setRouted(false)
		}
		claims.Go(func() error {
			if err := t.acquireAddressesOf(name, b); err != nil {
				return errorAt("bridge", name, err)
			}
			return nil
		})
	}
	return claims.Wait, nil
}

// acquireAddressesOf claims the pseudo addresses of one bridge, both at the same time.
func (t *transition) acquireAddressesOf(name string, b *bridge) error {
	var claims errgroup.Group
	for f, link := range b.eachLink() {
		claims.Go(func() error {
			if err := link.Acquire(t.cfg.Bridges[name].DAD != config.DADOff); err != nil {
				return err
			}
			if gateway := t.cfg.Bridges[name].Gateway(f); !link.AwaitGateway(t.p.now) {
				t.p.log.Warn("the gateway does not answer", "bridge", name, "gateway", gateway)
			}
			return nil
		})
	}
	return claims.Wait()
}

// release ends what keeps the network namespaces of replaced segments.
func (t *transition) release() {
	for _, release := range t.kept {
		if err := release(); err != nil {
			t.p.log.Error("releasing a network namespace", "error", err)
		}
	}
}

// undo removes what prepare made, and puts back what prepare took away.
func (t *transition) undo() {
	for _, ifc := range t.made {
		t.p.closeIface(ifc)
	}
	for _, b := range t.claimed {
		t.p.beUnclaimed(b, t.p.cfg)
	}
	for _, old := range t.replaced {
		again, err := t.p.makeSegment(old.spec)
		if err != nil {
			t.p.log.Error("a segment could not be made again after a failed reload", "segment", old.spec.Segment, "error", err)
			continue
		}
		*old = *again
		t.p.carry(old.iface)
	}
	if t.p.cfg == nil {
		return
	}
	if err := t.p.reinstate(); err != nil {
		t.p.log.Error("the configuration in force could not be put back whole after a failed reload", "error", err)
	}
}

// reinstate sets everything that a failed transition may have changed back to what the
// configuration in force says.
func (p *Plane) reinstate() error {
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err != nil {
		return err
	}
	p.datapaths.setRules(rules)
	if err := p.bans.follow(configuredBans(p.cfg), p.devices); err != nil {
		return err
	}
	for name, s := range p.segments {
		if _, err := s.dev.Configure(p.settingsOf(p.cfg, name, p.bridges)); err != nil {
			return err
		}
		s.setAliases(p.cfg.Segments[name])
	}
	p.followRemotes(p.cfg, p.devices)
	p.followHealth()
	return p.session.machine.Guard(p.guards(p.devices, p.retired))
}

// commit puts the new configuration in force, and closes the devices that no living
// configuration has.
func (t *transition) commit() {
	p := t.p
	for name, b := range t.bridges {
		b.setGateways(byFamily(t.cfg.Bridges[name].Gateway))
	}
	p.path.SetLimit(t.cfg.MaxFlowsOrDefault())
	p.datapaths.setRules(t.rules)
	p.followRemotes(t.cfg, t.devices) // before a new one is heard
	for _, s := range t.segments {
		if slices.Contains(t.made, s.iface) {
			p.carry(s.iface)
		}
	}
	for name, s := range t.segments {
		s.setAliases(t.cfg.Segments[name])
	}
	kept := append(t.devices.ifaces(), t.retired.ifaces()...)
	for _, old := range append(p.devices.ifaces(), p.retired.ifaces()...) {
		if !slices.Contains(kept, old) && !old.Closed.Load() {
			p.closeIface(old)
		}
	}
	p.cfg, p.devices, p.retired = t.cfg, t.devices, t.retired
	p.forget(append([]*config.Config{t.cfg}, t.retained...))
	if err := p.bans.commit(configuredBans(t.cfg)); err != nil {
		p.log.Error("a configured ban", "error", err)
	}
	p.followHealth()
	p.followRoles()
	p.begin()
}

// begin does at once what the next tick would do, so that a start need not wait for it.
func (p *Plane) begin() {
	now := p.now()
	for name, b := range p.bridges {
		if !b.up.Load() {
			p.log.Warn("the NIC is down: nothing passes until it is up (ip link set "+b.spec.nic+" up)", "bridge", name)
			p.tellNIC(name, b.spec.nic, false)
		}
		for _, link := range b.eachLink() {
			link.Tick(now)
		}
	}
	for _, s := range p.segments {
		for _, server := range s.servers() {
			server.Tick(now)
		}
	}
}

// guards says what the host's kernel must leave alone.
func (p *Plane) guards(all ...devices) host.GuardSpec {
	var g host.GuardSpec
	for _, d := range all {
		for _, name := range config.SortedKeys(d.segments) {
			s := d.segments[name]
			g.VNICs = append(g.VNICs, host.GuardedVNIC{Index: s.dev.Index(), Addresses: s.spec.Addresses, Away: s.spec.Netns != "" || s.spec.Remote, Remote: s.spec.Remote})
		}
		for _, name := range config.SortedKeys(d.bridges) {
			b := d.bridges[name]
			g.NICs = append(g.NICs, b.dev.Index())
			for _, own := range b.spec.addresses {
				if own.IsValid() {
					g.Pseudo = append(g.Pseudo, own.Addr())
				}
			}
		}
	}
	return g
}
