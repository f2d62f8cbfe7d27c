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

// healthChange says that a segment became unhealthy, or healthy again.
type healthChange struct {
	segment string
	reason  string // why it is unhealthy; empty: it is healthy
}

// watchHealth makes the monitor of the segments' health. The monitor calls the plane without
// its own lock.
func (p *Plane) watchHealth() {
	p.health = health.NewMonitor(health.Surroundings{
		Server: p.server,
		Listens: func(segment string, number uint16) bool {
			return p.open.Contains(segment, packet.Tuple{Proto: config.TCP, Dport: number})
		},
		Changed: func(ifc *iface.Iface) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.enforceHealthOrLog("putting a change of a segment's health in force: the next check tries again", ifc)
		},
	})
}

// server returns how health checks connect to the server of a segment: at its own address, or at
// the alias under which another segment reaches it.
func (p *Plane) server(ifc *iface.Iface) (server health.Server, stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := ifc.VNIC.Segment
	stopped = p.states[name] == config.Stopped
	s := p.segments[name]
	if s == nil || s.iface != ifc || stopped {
		return server, stopped
	}
	server.Host = ifc.First().VNIC.Address.Netip()
	if h := p.cfg.Segments[name].Health; h != nil && h.From != "" {
		server.Elsewhere = ifc.StandsBy()
		s = p.segments[h.From]
		server.Host, _ = p.cfg.AnyPeerAlias(h.From, name)
	}
	server.Dial = p.dialThrough(s.dev)
	return server, stopped
}

// dialThrough opens connections in the network namespace of a VNIC's segment.
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

// followHealth begins and ends health checks as the configuration in force says.
func (p *Plane) followHealth() {
	wanted := make(map[*iface.Iface]*config.Health)
	for name, s := range p.segments {
		wanted[s.iface] = p.cfg.Segments[name].Health
	}
	p.health.Follow(wanted, p.session.running.Go)
	if err := p.enforceHealth(); err != nil {
		p.log.Error("putting the health checks of segments in force", "error", err)
	}
}

// forgive forgets what the checks of a segment found, so that the segment is healthy.
func (p *Plane) forgive(ifc *iface.Iface) {
	p.health.Forgive(ifc)
	p.enforceHealthOrLog("putting in force that a segment's health is checked anew", ifc)
}

// setLost records why the server at an iface cannot be reached; empty: it can. A NIC's iface has
// no health.
func (p *Plane) setLost(ifc *iface.Iface, why string) error {
	if ifc.VNIC == nil {
		return nil
	}
	p.health.SetLost(ifc, why)
	return p.enforceHealth()
}

// lose records that an iface's device is gone and could not be made again at once.
func (p *Plane) lose(ifc *iface.Iface) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ifc.Closed.Load() {
		return
	}
	why := "its VNIC is gone"
	if ifc.VNIC != nil && ifc.VNIC.Remote {
		why = "device " + ifc.Name + " is gone"
	}
	if err := p.setLost(ifc, why); err != nil {
		p.log.Error("a segment without its VNIC still gets new flows", "segment", ifc.VNIC.Segment, "error", err)
	}
}

// enforceHealth compiles the rules again if a segment became unhealthy or healthy, so that
// only healthy segments get new flows. On error, the rules stay as they are, and the next
// call tries again.
func (p *Plane) enforceHealth() error {
	var changes []healthChange
	for _, name := range config.SortedKeys(p.segments) {
		s := p.segments[name]
		if problem := p.health.Condition(s.iface).Problem; s.unhealthy != (problem != "") {
			changes = append(changes, healthChange{name, problem})
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

// inForce records and reports a change of health whose rules are in force. It ends the UDP
// and echo flows to a segment that became unhealthy.
func (p *Plane) inForce(c healthChange) {
	s := p.segments[c.segment]
	s.unhealthy = c.reason != ""
	if s.unhealthy {
		p.path.RechooseAt(s.iface)
	}
	log := p.log.With("segment", c.segment, "established_flows", s.iface.Gauges().Flows.Load())
	if s.unhealthy {
		log.Warn("the segment is unhealthy: it gets no new flows", "reason", c.reason)
		p.happened(Event{SegmentDown, map[string]any{"segment": c.segment, "reason": c.reason}})
	} else {
		log.Info("the segment is healthy again")
		p.happened(Event{SegmentUp, map[string]any{"segment": c.segment}})
	}
}

func (p *Plane) enforceHealthOrLog(failure string, ifc *iface.Iface) {
	if err := p.enforceHealth(); err != nil {
		p.log.Error(failure, "segment", ifc.VNIC.Segment, "error", err)
	}
}
