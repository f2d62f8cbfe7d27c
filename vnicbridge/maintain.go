package vnicbridge

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// maintainInterval is how often the plane does the work that is due.
const maintainInterval = 250 * time.Millisecond

// inspectInterval is how often the plane looks at its devices without a hint, because the
// kernel does not tell of every change.
const inspectInterval = 10 * time.Second

// maintain does the work that is due until the session stops: it ends idle flows, keeps next
// hops resolved, announces pseudo addresses, follows the NICs, and repairs what others have
// changed.
func (p *Plane) maintain(changes <-chan struct{}, stop <-chan struct{}) {
	ticker := time.NewTicker(maintainInterval)
	defer ticker.Stop()
	last := p.now()
	inspected, sampled, hints, kick := last, last, changes, p.kick
	inspect := func() {
		hints, inspected = nil, p.now() // until the next tick, however much the machine tells
		p.inspect()
	}
	for {
		select {
		case <-stop:
			return
		case <-hints:
			inspect()
		case <-kick:
			kick = nil // until the next tick, however often the gateway changes
			p.configureVNICs()
		case <-ticker.C:
			hints, kick = changes, p.kick
			now := p.now()
			p.tick(now, time.Duration(now-last))
			p.logged.Flush(time.Now())
			last = now
			if now-inspected >= int64(inspectInterval) {
				inspect()
			}
			if now-sampled >= int64(sampleInterval) {
				p.sample()
				sampled = now
			}
		}
	}
}

// inspect looks at everything that others can change, and repairs it.
func (p *Plane) inspect() {
	if p.yielded.Load() {
		return
	}
	p.arrangement.Add(1) // a program may have been put first again
	p.followNICs()
	p.refreshSources()
	p.leaveUnhealthy()
	p.configureVNICs()
	p.reportObstacles()
	p.watch()
}

func (p *Plane) tick(now int64, passed time.Duration) {
	if p.yielded.Load() {
		return
	}
	p.datapaths.withKernelPath(func(k kernelPath) { k.Tick(now) })
	p.path.Tick(now, passed)
	if over, err := p.bans.tick(time.Now()); err != nil {
		p.log.Error("the time of bans is over, but they could not be lifted", "error", err)
	} else if len(over) > 0 {
		p.acts.Info("the time of bans is over", "networks", summary(over))
	}
	p.path.HoldFlows(func() { // a tick tells next hops to the kernel path
		rules := p.path.CurrentRules()
		for link := range rules.EachLink() {
			link.Tick(now)
		}
		for _, nic := range rules.Nics {
			nic.CountLeftOut()
		}
	})
}

// followNICs adopts the name, MAC, MTU and carrier that each NIC has now, and each device of a
// remote segment. One that is gone is left to recover.
func (p *Plane) followNICs() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.living() {
		for name, b := range d.bridges {
			if state, err := b.dev.Link(); err == nil {
				p.followNIC(name, b, state)
			}
		}
		for name, s := range d.segments {
			p.followDevice(name, s)
		}
	}
}

func (p *Plane) followNIC(name string, b *bridge, state iface.LinkState) {
	log := p.log.With("bridge", name, "nic", b.spec.nic)
	if state.Name != b.name {
		log.Warn("the NIC was renamed: it is followed until the next reload", "to", state.Name)
		b.name = state.Name
	}
	announce := state.NotifyPeers
	if state.Up && !state.MAC.IsZero() && state.MAC != b.iface.MAC() {
		log.Info("the NIC has another MAC", "mac", state.MAC)
		b.iface.SetMAC(state.MAC)
		announce = true
	}
	if state.Up != b.up.Load() {
		log.Info("the NIC went "+upOrDown(state.Up), "up", state.Up)
		p.tellNIC(name, b.spec.nic, state.Up)
		b.upSince = p.now()
		announce = announce || state.Up
	}
	b.up.Store(state.Up)
	if announce {
		b.announce()
	}
	if state.MTU <= 0 {
		return
	}
	if was := b.iface.SetMTU(state.MTU); was != state.MTU {
		log.Info("the NIC has another MTU: the VNICs that it serves follow", "from", was, "to", state.MTU)
	}
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// neighbourLearned is called when a next hop has a new MAC. Only the gateway can cause that
// VNICs are configured again, because the aliases' MACs follow the gateway's.
func (p *Plane) neighbourLearned(log *slog.Logger, c link.MACChange) {
	if c.Gateway && !c.From.IsZero() {
		log.Info("the gateway has another MAC", "gateway", c.Host, "from", c.From, "mac", c.To)
	} else {
		log.Debug("resolved", "address", c.Host, "mac", c.To)
	}
	if c.Gateway {
		p.remind()
	}
}

// remind makes maintain configure the VNICs soon.
func (p *Plane) remind() {
	select {
	case p.kick <- struct{}{}:
	default: // it is due already
	}
}

// configureVNICs keeps the VNICs as the configuration in force wants them.
func (p *Plane) configureVNICs() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.yielded.Load() {
		return
	}
	for name, s := range p.segments {
		byOthers, err := s.dev.Configure(p.settingsOf(p.cfg, name, p.bridges))
		switch {
		case err != nil:
			p.log.Error("keeping a VNIC as it should be", "segment", name, "error", err)
		case len(byOthers) > 0:
			p.log.Warn("a VNIC was changed from outside: put back", "segment", name, "device", s.spec.Iface, "changed", strings.Join(byOthers, ", "))
		}
	}
}

// leaveUnhealthy ends the UDP and echo flows to segments that are unhealthy. A program may
// have opened one while the segment became unhealthy.
func (p *Plane) leaveUnhealthy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.segments {
		if p.health.Condition(s.iface).Problem != "" {
			p.path.RechooseAt(s.iface)
		}
	}
}

// reportObstacles logs each obstacle of the machine when it comes and when it goes.
func (p *Plane) reportObstacles() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		return
	}
	obstacles := p.session.machine.obstacles()
	for _, o := range obstacles {
		if !slices.Contains(p.obstacles, o) {
			p.log.Warn(o)
		}
	}
	for _, o := range p.obstacles {
		if !slices.Contains(obstacles, o) {
			p.log.Info("no longer so: " + o)
		}
	}
	p.obstacles = obstacles
}

// refreshSources compiles again which source addresses no host outside can have, because the
// host's own addresses may have changed.
func (p *Plane) refreshSources() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg == nil {
		return
	}
	host, err := p.hostAddresses()
	if err != nil {
		p.log.Error("reading the host's addresses", "error", err)
		return
	}
	impossible := rules.ImpossibleSources(p.cfg, host)
	rules := *p.path.CurrentRules()
	if slices.Equal(rules.Impossible, impossible) {
		return
	}
	rules.Impossible = impossible
	p.datapaths.setRules(&rules)
}
