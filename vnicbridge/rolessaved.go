package vnicbridge

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/elector"
)

// savedRole is the role of a bridge, as a process tells its successor of it.
type savedRole struct {
	Says    elector.State `json:"says,omitempty"`
	Drained bool          `json:"drained,omitempty"`
	Fit     bool          `json:"fit,omitempty"`
	Since   time.Time     `json:"since"`
}

// yieldRoles stops reading the FIFOs of the electors, whose lines then wait for a successor, and
// returns what they have said.
func (p *Plane) yieldRoles() map[string]savedRole {
	p.roles.mu.Lock()
	var readers []*fifoReader
	for _, r := range p.roles.readers {
		close(r.stop)
		readers = append(readers, r)
	}
	p.roles.mu.Unlock()
	for _, r := range readers {
		<-r.done
	}
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	clear(p.roles.readers)
	saved := make(map[string]savedRole)
	for name, r := range p.roles.of {
		saved[name] = savedRole{p.roles.heard[r.instance()], r.drained, r.fit, r.since}
	}
	return saved
}

// restoreRoles goes on with the roles of a predecessor, whose links are inherited: nothing is
// announced again. One that has ended has no roles, because lines may have come since: the bridges
// that fail over stand by, and what they tell their elector makes it say again who has the addresses.
func (p *Plane) restoreRoles(saved map[string]savedRole) {
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	defer p.turnRemotes()
	for name, r := range p.roles.of {
		s, ok := saved[name]
		if r.announced() {
			p.beRouted(r.bridge) // also its inherited links
		} else if !ok {
			p.standBy(r.bridge)
		}
		if !ok {
			continue
		}
		r.drained, r.since = s.Drained, s.Since
		r.fit, r.told = s.Fit, true
		if s.Fit {
			r.fitSince = p.now() - int64(fitAfter)
		}
		if r.announced() {
			continue
		}
		p.roles.heard[r.instance()] = s.Says
		if r.active = s.Says == elector.Master; r.active {
			p.setStandby(r.bridge, 0)
		} else {
			p.standBy(r.bridge)
		}
	}
}

// readOn reads the FIFOs that another process has read, or that this one has, before its successor
// failed.
func (p *Plane) readOn() {
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	p.readElections()
}
