package vnicbridge

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// A bridge is fit to have its addresses while its NIC is up, a gateway answers, if it has one, a
// segment takes its new flows, and it is not drained (H4). Its elector is told at once that it is
// not, and that it is when it has been for fitAfter, so that a segment that comes and goes does not
// move the addresses each time.
const (
	judgeInterval = 50 * time.Millisecond
	fitAfter      = time.Second
)

// fitness is what is known of whether a bridge is fit.
type fitness struct {
	unfit    string // why it is not; empty: it is, since fitSince
	fitSince int64  // of the plane's clock
	fit      bool   // what its elector is told
	told     bool   // the elector has been told
}

// judge keeps the electors told, until the session stops.
func (p *Plane) judge(stop <-chan struct{}) {
	ticker := time.NewTicker(judgeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			p.judgeAll()
		}
	}
}

func (p *Plane) judgeAll() {
	p.roles.mu.Lock()
	defer p.roles.mu.Unlock()
	if p.yielded.Load() {
		return
	}
	for _, r := range p.roles.of {
		p.judgeRole(r)
	}
}

// judgeRole tells the elector of a bridge what has changed. The caller holds the lock of the roles.
func (p *Plane) judgeRole(r *role) {
	now, before := p.now(), r.unfit
	r.unfit = p.whyUnfit(r)
	if r.unfit != "" || before != "" || r.fitSince == 0 {
		r.fitSince = now
	}
	fit := r.unfit == "" && now-r.fitSince >= int64(fitAfter)
	if r.told && fit == r.fit {
		return
	}
	if r.told {
		p.acts.Info("told keepalived whether this machine is fit for the addresses", "bridge", r.name, "fit", fit, "reason", r.unfit)
	}
	p.tellFit(r, fit)
}

// tellFit writes the track file of a bridge. If that fails, the next judgement tries again.
func (p *Plane) tellFit(r *role, fit bool) {
	err := p.session.machine.Track(r.failover.Track, fit)
	r.fit, r.told = fit, err == nil
	if err != nil {
		p.log.Error("telling keepalived whether this machine is fit for the addresses", "bridge", r.name, "error", err)
	}
}

// whyUnfit returns why a bridge is not fit, or "".
func (p *Plane) whyUnfit(r *role) string {
	switch {
	case r.drained:
		return "drained by hand"
	case !r.bridge.up.Load():
		return "the NIC is down"
	case !r.bridge.reachesGateway():
		return "no gateway answers"
	case !p.hasSegments(r.bridge):
		return "no segment takes new flows"
	}
	return ""
}

// reachesGateway tells whether a gateway of the bridge answers, or it has none. One of two suffices:
// if the router of one family is gone, another machine cannot reach it either.
func (b *bridge) reachesGateway() bool {
	alone := true
	for _, link := range b.eachLink() {
		gateway, mac := link.Router()
		if gateway == packet.NoAddr {
			continue
		}
		alone = false
		if !mac.IsZero() && !link.Table().GatewaySilent() {
			return true
		}
	}
	return alone
}

// hasSegments tells whether a bridge can give new flows to a segment.
func (p *Plane) hasSegments(b *bridge) bool {
	rules := p.path.CurrentRules()
	for _, own := range b.iface.Each() {
		if bridge := rules.Bridges[own]; bridge != nil && bridge.Decisions.HasSegments() {
			return true
		}
	}
	return false
}

// BridgeState is whether a bridge that fails over has its addresses.
type BridgeState string

// The states of a bridge.
const (
	BridgeIsActive   BridgeState = "active"   // it has its addresses
	BridgeStandsBy   BridgeState = "standby"  // it says nothing about them, and gets no new flows
	BridgeIsDraining BridgeState = "draining" // it has its addresses until the elector gives them to another machine
)

// FailoverStatus describes the role of a bridge that fails over.
type FailoverStatus struct {
	config.Failover
	State   BridgeState `json:"state"`
	Since   time.Time   `json:"since"`           // when the bridge last became active or stood by
	Says    string      `json:"says"`            // what the elector said last; empty: nothing, or it has ended
	Fit     bool        `json:"fit"`             // as the elector is told
	Unfit   string      `json:"unfit,omitempty"` // why it is not
	Drained bool        `json:"drained"`         // by hand
}

// status returns the role of a bridge, or nil if it does not fail over.
func (s *roles) status(bridge string) *FailoverStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of[bridge]
	if r == nil {
		return nil
	}
	return &FailoverStatus{
		Failover: r.failover, State: r.state(), Since: r.since, Says: string(s.heard[r.instance()]),
		Fit: r.fit, Unfit: r.unfit, Drained: r.drained,
	}
}

func (r *role) state() BridgeState {
	switch {
	case !r.active:
		return BridgeStandsBy
	case r.drained:
		return BridgeIsDraining
	}
	return BridgeIsActive
}
