package vnicbridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// checker asks one segment for as long as its VNIC and its checks are wanted.
type checker struct {
	p      *Plane
	port   *port
	health Health // with the defaults
	cancel context.CancelFunc

	listened bool // a listener of this program has had the port open
	closed   bool // and has no longer
}

// followHealth begins the checks that the configuration in force wants, and ends
// the others. Checks that are the same go on, and what they found stays. Others
// begin anew, and the segment is healthy until they say otherwise: a check is
// changed because it was wrong, and at a start all would be refused until the
// first ones pass.
func (p *Plane) followHealth() {
	for name, s := range p.segments {
		v, want := &s.port.vnic.vitals, p.cfg.Segments[name].Health
		if v.checker == nil && want == nil || v.checker != nil && want != nil && v.checker.health == want.withDefaults() {
			continue
		}
		v.stopChecks()
		p.forgiveOrLog(s.port)
		if want != nil {
			v.checker = p.startChecks(s.port, want.withDefaults())
		}
	}
}

func (p *Plane) startChecks(port *port, h Health) *checker {
	ctx, cancel := context.WithCancel(context.Background())
	c := &checker{p: p, port: port, health: h, cancel: cancel}
	p.session.running.Go(func() { c.run(ctx) })
	return c
}

// run checks at each interval, the first time after a random part of it.
func (c *checker) run(ctx context.Context) {
	interval := int64(c.health.Interval)
	due := time.NewTimer(time.Duration(rand.Int64N(interval)))
	defer due.Stop()
	listener := time.NewTicker(maintainInterval)
	defer listener.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-listener.C:
			c.watchListener()
		case <-due.C:
			due.Reset(time.Duration(interval - rand.Int64N(interval/10)))
			c.check(ctx)
		}
	}
}

// check asks the segment, unless the answer is known: a stopped one has no servers,
// and one without its VNIC no address.
func (c *checker) check(ctx context.Context) {
	c.watchListener()
	dev, ok := c.target()
	if !ok || c.closed {
		return
	}
	err := probe(ctx, c.health, c.p.dialThrough(dev), c.port.vnic.address.netip())
	if ctx.Err() == nil {
		c.report(func(v *vitals) { v.count(err, c.health) })
	}
}

func (c *checker) target() (vnicDevice, bool) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	s := c.p.segmentOn(c.port)
	if s == nil || s.port.vnic.lost || c.p.states[s.spec.segment] == Stopped {
		return nil, false
	}
	return s.dev, true
}

// watchListener looks whether the port that is checked was open by a listener of
// this program, and is no longer. Nothing needs to be asked then: it counts as all
// the checks that would fail.
func (c *checker) watchListener() {
	segment := c.port.vnic.segment
	listens := c.p.open.contains(segment, tuple{proto: TCP, dport: c.health.Port})
	c.listened = c.listened || listens
	if c.closed = c.listened && !listens; !c.closed {
		return
	}
	c.report(func(v *vitals) {
		if c.p.states[segment] != Stopped {
			v.failing, v.streak = fmt.Sprintf("the listener on tcp/%d has closed", c.health.Port), 0
		}
	})
}

// report puts in force what a check found, if the check is still wanted.
func (c *checker) report(change func(*vitals)) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.port.vnic.checker != c || c.port.closed.Load() {
		return
	}
	if err := c.p.examine(c.port, change); err != nil {
		c.p.log.Error("a segment's health has changed, which is not in force: the next check tries again", "segment", c.port.vnic.segment, "error", err)
	}
}
