package vnicbridge

import (
	"log/slog"
	"slices"
	"strings"
	"time"
)

// maintainInterval is how often the plane looks at what time asks for.
const maintainInterval = 250 * time.Millisecond

// inspectInterval is how often the devices are looked at without a hint: not all
// that can be changed is told of.
const inspectInterval = 10 * time.Second

// maintain does what time and the machine ask for: idle flows end, next hops are
// kept resolved, the pseudo addresses announced, devices followed and kept as they
// should be.
func (p *Plane) maintain(changes <-chan struct{}, stop <-chan struct{}) {
	ticker := time.NewTicker(maintainInterval)
	defer ticker.Stop()
	last := p.now()
	inspected, hints, kick := last, changes, p.kick
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
			p.logged.flush(time.Now())
			last = now
			if now-inspected >= int64(inspectInterval) {
				inspect()
			}
		}
	}
}

// inspect looks at all that others can change.
func (p *Plane) inspect() {
	p.followNICs()
	p.refreshSources()
	p.leaveUnhealthy()
	p.configureVNICs()
	p.reportObstacles()
}

func (p *Plane) tick(now int64, passed time.Duration) {
	p.datapaths.withKernelPath(func(k kernelPath) { k.tick(now) })
	p.path.tick(now, passed)
	p.path.holdFlows(func() { // next hops are told to the kernel data path
		for _, nic := range p.path.currentRules().nics {
			nic.nic.link.tick(now)
			nic.countLeftOut()
		}
	})
}

// followNICs takes in what happened to the NICs. One that is gone is left to
// recover.
func (p *Plane) followNICs() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.living() {
		for name, b := range d.bridges {
			if state, err := b.dev.link(); err == nil {
				p.followNIC(name, b, state)
			}
		}
	}
}

func (p *Plane) followNIC(name string, b *bridge, state linkState) {
	log := p.log.With("bridge", name, "nic", b.spec.nic)
	if state.name != b.name {
		log.Warn("the NIC was renamed: it is followed until the next reload", "to", state.name)
		b.name = state.name
	}
	announce := state.notifyPeers
	if state.up && !state.mac.IsZero() && state.mac != b.port.mac() {
		log.Info("the NIC has another MAC", "mac", state.mac)
		b.port.setMAC(state.mac)
		announce = true
	}
	if state.up != b.up {
		log.Info("the NIC went "+upOrDown(state.up), "up", state.up)
		announce = announce || state.up
	}
	b.up = state.up
	if announce {
		b.link.claim.announce()
	}
	if state.mtu <= 0 {
		return
	}
	if was := int(b.port.mtu.Swap(int32(state.mtu))); was != state.mtu {
		log.Info("the NIC has another MTU: the VNICs that it serves follow", "from", was, "to", state.mtu)
	}
}

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// neighbourLearned is called when a next hop's MAC is new: the segments' aliases
// follow the gateway's. No other host can have the VNICs configured again.
func (p *Plane) neighbourLearned(log *slog.Logger, c macChange) {
	if c.gateway && !c.from.IsZero() {
		log.Info("the gateway has another MAC", "gateway", c.host, "from", c.from, "mac", c.to)
	} else {
		log.Debug("resolved", "address", c.host, "mac", c.to)
	}
	if c.gateway {
		p.remind()
	}
}

// remind lets maintain configure the VNICs soon.
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
	for name, s := range p.segments {
		byOthers, err := s.dev.configure(settingsOf(p.cfg, name, p.bridges))
		switch {
		case err != nil:
			p.log.Error("keeping a VNIC as it should be", "segment", name, "error", err)
		case len(byOthers) > 0:
			p.log.Warn("a VNIC was changed from outside: put back", "segment", name, "device", s.spec.iface, "changed", strings.Join(byOthers, ", "))
		}
	}
}

// leaveUnhealthy ends the flows without a connection to segments that are unhealthy. A
// program may have opened one while a segment became so.
func (p *Plane) leaveUnhealthy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.segments {
		if p.health.condition(s.port).problem != "" {
			p.path.rechooseAt(s.port)
		}
	}
}

// reportObstacles tells of what others have put before what is ours, and where it cannot
// stand before that again. Each is told once while it lasts.
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

// refreshSources compiles again which sources nobody outside can have.
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
	impossible := impossibleSources(p.cfg, host)
	rules := *p.path.currentRules()
	if slices.Equal(rules.impossible, impossible) {
		return
	}
	rules.impossible = impossible
	p.datapaths.setRules(&rules)
}
