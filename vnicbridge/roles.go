package vnicbridge

import (
	"errors"
	"maps"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/elector"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
)

// roles are which bridges have their addresses, and who is told whether they are fit. They have a
// lock of their own, because a bridge must follow its elector within milliseconds, and a reload may
// take seconds.
type roles struct {
	mu      lockorder.Mutex[lockorder.Roles]
	of      map[string]*role               // by bridge: those that fail over, or are announced
	heard   map[fifoInstance]elector.State // what each elector said last
	readers map[string]*fifoReader         // by FIFO
	remotes []remoteRole                   // of the devices in force
	judged  bool                           // a goroutine judges whether the bridges are fit
}

// fifoReader is a goroutine that reads a FIFO.
type fifoReader struct{ stop, done chan struct{} }

// fifoInstance names an instance of an elector.
type fifoInstance struct{ fifo, name string }

// maxHeard bounds how many instances are remembered that no bridge has.
const maxHeard = 256

// role is whether a bridge that fails over has its addresses. A bridge that is announced always has
// them.
type role struct {
	name     string
	bridge   *bridge
	voice    voice
	failover config.Failover // the zero value: it is announced
	active   bool
	since    time.Time // when active last changed

	drained bool // by hand
	fitness
}

func (r *role) instance() fifoInstance { return fifoInstance{r.failover.FIFO, r.failover.Instance} }

// standBy makes a bridge silent about its addresses, and keeps new flows from it (H2). Flows that
// it has go on.
func (p *Plane) standBy(b *bridge) {
	b.setRouted(false)
	p.setStandby(b, 1)
	for _, link := range b.eachLink() {
		link.StandBy()
	}
}

// activate gives a bridge its addresses (H3). It accepts flows before anybody hears of it, and the
// servers behind devices hear of it before clients. The caller holds the lock of the roles.
func (p *Plane) activate(b *bridge) {
	p.setStandby(b, 0)
	p.turnRemotes()
	p.takeOverRemotes(p.remotesOf(b))
	for _, link := range b.eachLink() {
		link.TakeOver(p.now())
	}
}

// beRouted makes a bridge silent about its addresses, because routers know where they are (H9). New
// flows come to it.
func (p *Plane) beRouted(b *bridge) {
	b.setRouted(true)
	p.setStandby(b, 0)
	for _, link := range b.eachLink() {
		link.StandBy()
	}
}

func (b *bridge) setRouted(routed bool) {
	for _, own := range b.iface.Each() {
		own.NIC.Routed.Store(routed)
	}
}

// beUnclaimed makes a bridge silent about its addresses, as a configuration wants it.
func (p *Plane) beUnclaimed(b *bridge, c *config.Config) {
	if c.Bridges[b.spec.bridge].Announce != nil {
		p.beRouted(b)
	} else {
		p.standBy(b)
	}
}

// setStandby tells both data paths whether a bridge stands by.
func (p *Plane) setStandby(b *bridge, standby uint32) {
	p.path.HoldFlows(func() {
		for _, own := range b.iface.Each() {
			own.Gauges().Standby.Store(standby)
		}
	})
}

// followRoles gives each bridge that fails over, under the configuration in force, the role that
// its elector says, and each one that is announced its silence. A bridge that no longer does either
// has been claimed by the transition.
func (p *Plane) followRoles() {
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	for name, r := range p.roles.of {
		voice := voiceOf(p.cfg, name)
		if voice != r.voice {
			p.tellFit(r, false)
			r.told = false
		}
		if voice == nil {
			delete(p.roles.of, name)
		}
	}
	for name, b := range p.bridges {
		f, fails := p.cfg.FailoverOf(name)
		b.failsOver.Store(fails)
		voice := voiceOf(p.cfg, name)
		if voice == nil {
			p.setStandby(b, 0)
			continue
		}
		r := p.roles.of[name]
		if r == nil {
			r = &role{name: name, bridge: b, active: !b.iface.StandsBy(), since: time.Now()}
			p.roles.of[name] = r
		} else if r.bridge != b { // its NIC was opened anew, and stands by
			r.bridge, r.active = b, false
		}
		r.failover, r.voice = f, voice
		if !fails {
			p.beRouted(b)
			r.active = true
			continue
		}
		if b.iface.NIC.Routed.Load() { // it was announced until now
			p.standBy(b)
			r.active = false
		}
		p.turn(r)
	}
	p.takeOverRemotes(p.turnRemotes())
	p.readElections()
}

// readElections begins to read the FIFOs of the electors, and ends that for those that no bridge
// has. While a predecessor reads them, it does neither. The caller holds the lock of the roles.
func (p *Plane) readElections() {
	if p.datapaths.waits {
		return
	}
	wanted := make(map[string]bool)
	for _, r := range p.roles.of {
		if r.failover.FIFO != "" {
			wanted[r.failover.FIFO] = true
		}
	}
	for fifo := range p.roles.readers {
		if !wanted[fifo] {
			p.roles.stopReading(fifo)
		}
	}
	m, ending := p.session.machine, p.session.stop
	for fifo := range wanted {
		if p.roles.readers[fifo] != nil {
			continue
		}
		r := &fifoReader{make(chan struct{}), make(chan struct{})}
		p.roles.readers[fifo] = r
		p.session.running.Go(func() {
			defer close(r.done)
			m.Follow(fifo, func(line string) { p.hear(fifo, r, line) }, func() { p.hearNobody(fifo, r) }, r.stop)
		})
	}
	if len(p.roles.of) > 0 && !p.roles.judged {
		p.roles.judged = true
		p.session.running.Go(func() { p.judge(ending) })
	}
}

// stopReading ends the reader of a FIFO, and forgets what it has heard, because nobody hears of
// changes any more. The caller holds the lock.
func (s *roles) stopReading(fifo string) {
	close(s.readers[fifo].stop)
	delete(s.readers, fifo)
	s.forgetHeard(fifo)
}

func (s *roles) forgetHeard(fifo string) {
	maps.DeleteFunc(s.heard, func(i fifoInstance, _ elector.State) bool { return i.fifo == fifo })
}

// hear takes in a line of an elector.
func (p *Plane) hear(fifo string, by *fifoReader, line string) {
	n, ok := elector.ParseNotice(line)
	if !ok {
		return
	}
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	if p.roles.readers[fifo] != by {
		return // it has been stopped
	}
	instance := fifoInstance{fifo, n.Name}
	if n.State == elector.RivalLeft {
		for _, r := range p.roles.of {
			if r.active && r.instance() == instance {
				p.activate(r.bridge) // it announces its addresses again (H5)
			}
		}
		return
	}
	if _, known := p.roles.heard[instance]; !known && len(p.roles.heard) >= maxHeard {
		clear(p.roles.heard)
	}
	p.roles.heard[instance] = n.State
	p.turnAll()
}

// hearNobody takes in that the elector at a FIFO has ended, so that its peer takes over.
func (p *Plane) hearNobody(fifo string, by *fifoReader) {
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	if p.roles.readers[fifo] == by {
		p.roles.forgetHeard(fifo)
		p.turnAll()
	}
}

func (p *Plane) turnAll() {
	for _, r := range p.roles.of {
		if !r.announced() {
			p.turn(r)
		}
	}
}

func (r *role) announced() bool { return r.failover == config.Failover{} }

// turn makes a bridge do what its elector says (H1). The caller holds the lock of the roles.
func (p *Plane) turn(r *role) {
	said := p.roles.heard[r.instance()]
	if active := said == elector.Master; active == r.active {
		return
	}
	r.active, r.since = !r.active, time.Now()
	if r.active {
		p.activate(r.bridge)
		p.acts.Info("the bridge is active", "bridge", r.name)
		p.happened(Event{BridgeActive, map[string]any{"bridge": r.name}})
		return
	}
	p.standBy(r.bridge)
	p.turnRemotes()
	reason := reasonOf(said)
	p.acts.Info("the bridge stands by", "bridge", r.name, "reason", reason)
	p.happened(Event{BridgeStandby, map[string]any{"bridge": r.name, "reason": reason}})
}

// reasonOf says why a bridge stands by.
func reasonOf(said elector.State) string {
	if said == elector.Unheard {
		return "keepalived does not run, or has told nothing yet"
	}
	return "keepalived says " + string(said)
}

// leaveElections tells everybody that this machine is not fit, because it leaves.
func (p *Plane) leaveElections() {
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	for fifo := range p.roles.readers {
		p.roles.stopReading(fifo)
	}
	for name, r := range p.roles.of {
		p.tellFit(r, false)
		delete(p.roles.of, name)
	}
	p.roles.judged = false
}

// DrainBridge tells the elector of a bridge, or routers, that this machine is not fit to have its
// addresses, or, with false, that it is again. Until they go elsewhere, the bridge carries on as
// before. The error says that the configuration in force does not have the bridge, or is a
// [*config.Error] if the bridge neither fails over nor is announced.
func (p *Plane) DrainBridge(bridge string, drained bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.yielded.Load() {
		return ErrYielded
	}
	if p.bridges[bridge] == nil {
		return config.UnknownBridge(bridge, config.SortedKeys(p.bridges))
	}
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	r := p.roles.of[bridge]
	if r == nil {
		return &config.Error{Part: "bridge", Name: bridge, Err: errors.New("without failover or announce no other machine takes its addresses: drain its segments instead")}
	}
	if r.drained != drained {
		r.drained = drained
		p.acts.Info("the bridge was set by hand", "bridge", bridge, "drained", drained)
	}
	p.judgeRole(r)
	return nil
}
