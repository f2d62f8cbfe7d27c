package vnicbridge

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// remoteRole is whether this machine has the aliases behind the device of a remote segment. It has
// them while it has the address of a bridge from which flows come to the segment. Otherwise another
// machine has them, with the same MAC (H2).
type remoteRole struct {
	segment *segment
	bridges []*bridge
}

// remoteRolesOf returns the roles of the remote segments among the devices of a configuration.
func remoteRolesOf(c *config.Config, d devices) (roles []remoteRole) {
	for _, name := range config.SortedKeys(d.segments) {
		if s := d.segments[name]; s.spec.Remote {
			r := remoteRole{segment: s}
			for _, bridge := range c.BridgesBefore(name) {
				r.bridges = append(r.bridges, d.bridges[bridge])
			}
			roles = append(roles, r)
		}
	}
	return roles
}

// followRemotes takes in the devices of a configuration, and gives them the roles that its bridges
// have now.
func (p *Plane) followRemotes(c *config.Config, d devices) {
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	p.roles.remotes = remoteRolesOf(c, d)
	p.takeOverRemotes(p.turnRemotes())
}

// turnRemotes gives all devices the roles that the bridges have now. It returns the segments of those
// that another machine had. The caller holds the lock of the roles.
func (p *Plane) turnRemotes() (taken []*segment) {
	p.path.HoldFlows(func() {
		for _, r := range p.roles.remotes {
			if r.segment.iface.Closed.Load() {
				continue
			}
			before, standby := r.segment.iface.StandsBy(), uint32(0)
			if r.standsBy() {
				standby = 1
			} else if before {
				taken = append(taken, r.segment)
			}
			for _, own := range r.segment.iface.Each() {
				own.Gauges().Standby.Store(standby)
			}
		}
	})
	return taken
}

func (r remoteRole) standsBy() bool {
	return len(r.bridges) > 0 && !slices.ContainsFunc(r.bridges, func(b *bridge) bool { return !b.iface.StandsBy() })
}

// takeOverRemotes announces the bridge's MAC behind the devices of segments.
func (p *Plane) takeOverRemotes(segments []*segment) {
	for _, s := range segments {
		for _, server := range s.servers() {
			server.TakeOver(p.now())
		}
	}
}

// remotesOf returns the segments behind devices to which flows come from a bridge. The caller holds the
// lock of the roles.
func (p *Plane) remotesOf(b *bridge) (segments []*segment) {
	for _, r := range p.roles.remotes {
		if slices.Contains(r.bridges, b) && !r.segment.iface.Closed.Load() {
			segments = append(segments, r.segment)
		}
	}
	return segments
}
