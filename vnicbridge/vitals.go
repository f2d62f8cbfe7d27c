package vnicbridge

import (
	"context"
	"net"
	"time"
)

// vitals are what is known of a segment's health. They live as long as its VNIC.
type vitals struct {
	checker *checker // nil: the segment is not checked

	failing string // what the checks found wrong; empty: nothing
	streak  int    // of checks in a row that say otherwise
	lost    bool   // the VNIC is gone, and could not be made again yet
	since   time.Time
}

// problem is why the segment gets no new flows, or "".
func (v *vitals) problem() string {
	if v.lost {
		return "its VNIC is gone"
	}
	return v.failing
}

// count takes in the result of a check.
func (v *vitals) count(err error, h Health) {
	if (err != nil) == (v.failing != "") {
		v.streak = 0
		if err != nil {
			v.failing = err.Error()
		}
		return
	}
	v.streak++
	switch {
	case err != nil && v.streak >= h.Fails:
		v.failing, v.streak = err.Error(), 0
	case err == nil && v.streak >= h.Passes:
		v.failing, v.streak = "", 0
	}
}

func (v *vitals) stopChecks() {
	if v.checker != nil {
		v.checker.cancel()
		v.checker = nil
	}
}

// HealthChange is a segment that became unhealthy, or healthy again.
type HealthChange struct {
	Segment string
	Reason  string // why it is unhealthy; empty: it is healthy
}

// examine changes the vitals of a segment's port, and puts in force what follows
// from that. On error nothing has changed.
func (p *Plane) examine(port *port, change func(*vitals)) error {
	v := &port.vnic.vitals
	before := *v
	change(v)
	problem, s := v.problem(), p.segmentOn(port)
	if s == nil || (before.problem() == "") == (problem == "") {
		return nil
	}
	v.since = time.Now()
	rules, err := p.compile(p.cfg, p.devices, p.retired)
	if err != nil {
		*v = before
		return err
	}
	p.setRules(rules)
	if problem != "" {
		p.path.rechoose(port.isServer)
	}
	log := p.log.With("segment", s.spec.segment, "established_flows", port.gauges().flows.Load())
	if problem != "" {
		log.Warn("the segment is unhealthy: it gets no new flows", "reason", problem)
	} else {
		log.Info("the segment is healthy again")
	}
	p.healthChanged(HealthChange{s.spec.segment, problem})
	return nil
}

// forgive forgets what the checks of a segment found.
func (p *Plane) forgive(port *port) error {
	return p.examine(port, func(v *vitals) { v.failing, v.streak = "", 0 })
}

func (p *Plane) forgiveOrLog(port *port) {
	if err := p.forgive(port); err != nil {
		p.log.Error("checking a segment anew", "segment", port.vnic.segment, "error", err)
	}
}

// setLost takes in whether a segment has its VNIC.
func (p *Plane) setLost(port *port, lost bool) error {
	if port.vnic == nil {
		return nil
	}
	return p.examine(port, func(v *vitals) { v.lost = lost })
}

// lose is told that a port's device is gone and could not be made again at once.
func (p *Plane) lose(port *port) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port.closed.Load() {
		return
	}
	if err := p.setLost(port, true); err != nil {
		p.log.Error("a segment without its VNIC gets new flows still", "segment", port.vnic.segment, "error", err)
	}
}

// segmentOn is the segment of the configuration in force whose VNIC a port is.
func (p *Plane) segmentOn(port *port) *segment {
	if s := p.segments[port.vnic.segment]; s != nil && s.port == port {
		return s
	}
	return nil
}

// dialThrough opens connections where the sockets of a VNIC's segment are.
func (p *Plane) dialThrough(dev vnicDevice) dialer {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = dev.do(func() error {
			var err error
			conn, err = p.dial(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// HealthStatus is whether a segment gets new flows as far as its health goes.
type HealthStatus struct {
	Healthy bool      `json:"healthy"`
	Checked bool      `json:"checked"`          // the configuration has a check; without one only the VNIC counts
	Reason  string    `json:"reason,omitempty"` // why it is unhealthy
	Since   time.Time `json:"since,omitzero"`   // when that changed last, if it ever did
}

func (v *vitals) status() HealthStatus {
	return HealthStatus{Healthy: v.problem() == "", Checked: v.checker != nil, Reason: v.problem(), Since: v.since}
}
