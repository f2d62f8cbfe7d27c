package vnicbridge

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// A bridge is fit to have its addresses while its NIC is up, a gateway answers, if it has one, a
// segment takes its new flows, and it is not drained (H4). Others are told at once by its voice that it
// is not, and that it is when it has been for fitAfter, so that a segment that comes and goes does not
// move the addresses each time. They are told again after tellAgain, because somebody may have undone
// it: keepalived 2.2.8 to 2.3.2 write the init_file each time they start.
const (
	judgeInterval = 50 * time.Millisecond
	fitAfter      = time.Second
	tellAgain     = time.Second
)

// fitness tells whether a bridge is fit, and what others have been told.
type fitness struct {
	unfit    string // why it is not; empty: it is, since fitSince
	fitSince int64  // of the plane's clock
	fit      bool   // what others are told
	told     bool   // they have been told
	toldAt   int64  // when
}

// judge keeps others told, until the session stops.
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

// judgeRole tells the others what has changed of a bridge, or whether it is fit once more. The caller holds the lock of the roles.
func (p *Plane) judgeRole(r *role) {
	now, before := p.now(), r.unfit
	r.unfit = p.whyUnfit(r)
	if r.unfit != "" || before != "" || r.fitSince == 0 {
		r.fitSince = now
	}
	fit := r.unfit == "" && now-r.fitSince >= int64(fitAfter)
	if r.told && fit == r.fit && now-r.toldAt < int64(tellAgain) {
		return
	}
	if r.announced() && fit != r.fit {
		p.happened(announcement(r.name, r.unfit))
	}
	if r.told && fit != r.fit {
		p.acts.Info("told others whether this machine is fit for the addresses", "bridge", r.name, "fit", fit, "reason", r.unfit)
	}
	p.tellFit(r, fit)
}

// announcement is the event of a bridge that is announced now, or no longer.
func announcement(bridge, unfit string) Event {
	if unfit == "" {
		return Event{BridgeActive, map[string]any{"bridge": bridge}}
	}
	return Event{BridgeStandby, map[string]any{"bridge": bridge, "reason": unfit}}
}

// tellFit tells others whether a bridge is fit. If that fails, the next judgement tries again.
func (p *Plane) tellFit(r *role, fit bool) {
	err := r.voice.tell(p.session.machine, fit)
	r.fit, r.told, r.toldAt = fit, err == nil, p.now()
	if err != nil {
		p.log.Error("telling others whether this machine is fit for the addresses", "bridge", r.name, "error", err)
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

// RoleStatus is what bridges have in common that fail over, or are announced.
type RoleStatus struct {
	State   BridgeState `json:"state"`
	Since   time.Time   `json:"since"`           // when the bridge last became active or stood by
	Fit     bool        `json:"fit"`             // as others are told
	Unfit   string      `json:"unfit,omitempty"` // why it is not
	Drained bool        `json:"drained"`         // by hand
}

// FailoverStatus describes the role of a bridge that fails over.
type FailoverStatus struct {
	config.Failover
	RoleStatus
	Says string `json:"says"` // what the elector said last; empty: nothing, or it has ended
}

// AnnounceStatus describes a bridge that is announced: its route is there exactly while it is fit.
type AnnounceStatus struct {
	config.Announce
	RoleStatus
}

// Role returns what is known of a bridge that fails over or is announced, or nil.
func (b *BridgeStatus) Role() *RoleStatus {
	switch {
	case b.Failover != nil:
		return &b.Failover.RoleStatus
	case b.Announce != nil:
		return &b.Announce.RoleStatus
	}
	return nil
}

// describe adds the role of a bridge to its status, if it has one.
func (s *roles) describe(bridge string, c *config.Bridge, status *BridgeStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of[bridge]
	if r == nil {
		return
	}
	is := RoleStatus{State: r.state(), Since: r.since, Fit: r.fit, Unfit: r.unfit, Drained: r.drained}
	if r.announced() {
		status.Announce = &AnnounceStatus{*c.Announce, is}
	} else {
		status.Failover = &FailoverStatus{r.failover, is, string(s.heard[r.instance()])}
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
