package vnicbridge

import (
	"context"
	"net"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/health"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// HealthChange is a segment that became unhealthy, or healthy again.
type HealthChange struct {
	Segment string
	Reason  string // why it is unhealthy; empty: it is healthy
}

// watchHealth makes the monitor of the segments. The plane's lock is taken before the
// monitor's.
func (p *Plane) watchHealth() {
	p.health = health.NewMonitor(health.Surroundings{
		Server: p.server,
		Listens: func(segment string, number uint16) bool {
			return p.open.Contains(segment, packet.Tuple{Proto: config.TCP, Dport: number})
		},
		Changed: func(ifc *iface.Iface) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.enforceHealthOrLog("a segment's health has changed, which is not in force: the next check tries again", ifc)
		},
	})
}

// server is the way to the server of a segment, for its checks.
func (p *Plane) server(ifc *iface.Iface) (dial health.Dialer, stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stopped = p.states[ifc.VNIC.Segment] == config.Stopped
	if s := p.segments[ifc.VNIC.Segment]; s != nil && s.iface == ifc && !stopped {
		dial = p.dialThrough(s.dev)
	}
	return dial, stopped
}

// dialThrough opens connections where the sockets of a VNIC's segment are.
func (p *Plane) dialThrough(dev host.VNIC) health.Dialer {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = dev.Do(func() error {
			var err error
			conn, err = p.dial(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// followHealth lets the segments be checked as the configuration in force wants.
func (p *Plane) followHealth() {
	wanted := make(map[*iface.Iface]*config.Health)
	for name, s := range p.segments {
		wanted[s.iface] = p.cfg.Segments[name].Health
	}
	p.health.Follow(wanted, p.session.running.Go)
	if err := p.enforceHealth(); err != nil {
		p.log.Error("checking segments anew", "error", err)
	}
}

// forgive forgets what the checks of a segment found.
func (p *Plane) forgive(ifc *iface.Iface) {
	p.health.Forgive(ifc)
	p.enforceHealthOrLog("checking a segment anew", ifc)
}

// SetLost takes in whether an iface has its device. A NIC's iface has no health.
func (p *Plane) setLost(ifc *iface.Iface, lost bool) error {
	if ifc.VNIC == nil {
		return nil
	}
	p.health.SetLost(ifc, lost)
	return p.enforceHealth()
}

// lose is told that an iface's device is gone and could not be made again at once.
func (p *Plane) lose(ifc *iface.Iface) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ifc.Closed.Load() {
		return
	}
	if err := p.setLost(ifc, true); err != nil {
		p.log.Error("a segment without its VNIC gets new flows still", "segment", ifc.VNIC.Segment, "error", err)
	}
}

// enforceHealth gives new flows to the segments that are healthy, if these are others than
// before. On error they are the same still, and whoever calls next tries again.
func (p *Plane) enforceHealth() error {
	var changes []HealthChange
	for _, name := range config.SortedKeys(p.segments) {
		s := p.segments[name]
		if problem := p.health.Condition(s.iface).Problem; s.unhealthy != (problem != "") {
			changes = append(changes, HealthChange{name, problem})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err != nil {
		return err
	}
	p.datapaths.setRules(rules)
	for _, c := range changes {
		p.inForce(c)
	}
	return nil
}

// inForce says that rules that follow from a change of health are in force. Datagrams leave
// a segment that is unhealthy.
func (p *Plane) inForce(c HealthChange) {
	s := p.segments[c.Segment]
	s.unhealthy = c.Reason != ""
	if s.unhealthy {
		p.path.RechooseAt(s.iface)
	}
	log := p.log.With("segment", c.Segment, "established_flows", s.iface.Gauges().Flows.Load())
	if s.unhealthy {
		log.Warn("the segment is unhealthy: it gets no new flows", "reason", c.Reason)
	} else {
		log.Info("the segment is healthy again")
	}
	p.healthChanged(c)
}

func (p *Plane) enforceHealthOrLog(failure string, ifc *iface.Iface) {
	if err := p.enforceHealth(); err != nil {
		p.log.Error(failure, "segment", ifc.VNIC.Segment, "error", err)
	}
}
