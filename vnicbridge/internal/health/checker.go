package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// listenerInterval is how often a checker looks whether the listener still exists.
const listenerInterval = 250 * time.Millisecond

// trustElsewhere is how long the results of checks count while another machine has the way to the
// server. Afterwards the segment is healthy until a check fails, so that this machine can take over
// from one that cannot reach the server either.
const trustElsewhere = time.Minute

// checker checks one segment until it is canceled.
type checker struct {
	monitor *Monitor
	iface   *iface.Iface  // the VNIC
	health  config.Health // with the defaults
	cancel  context.CancelFunc

	// Only the goroutine of run uses these.
	listened bool // a listener of this process has had the port open
	closed   bool // it had, and no listener has the port open now

	elsewhere time.Time // since when another machine has the way to the server; zero: it has not
}

// run checks once in each interval. The first check comes after a random part of the
// interval, so that the checks of many segments spread.
func (c *checker) run(ctx context.Context) {
	interval := int64(c.health.Interval)
	due := time.NewTimer(time.Duration(rand.Int64N(interval)))
	defer due.Stop()
	listener := time.NewTicker(listenerInterval)
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

// check probes the segment's server, unless the result is known: a stopped segment has no
// servers, and a segment without its VNIC has no address.
func (c *checker) check(ctx context.Context) {
	c.watchListener()
	server, _ := c.monitor.Server(c.iface)
	if c.isElsewhere(server) || server.Dial == nil || c.closed || c.monitor.Condition(c.iface).lost {
		return
	}
	err := Probe(ctx, c.health, server.Dial, server.Host)
	if ctx.Err() == nil {
		c.monitor.report(c, func(v *vitals) { v.count(err, c.health) })
	}
}

// isElsewhere tells whether another machine has the way to the server, and forgets what the checks
// have found if it has had it for long.
func (c *checker) isElsewhere(server Server) bool {
	switch {
	case !server.Elsewhere:
		c.elsewhere = time.Time{}
	case c.elsewhere.IsZero():
		c.elsewhere = time.Now()
	case time.Since(c.elsewhere) >= trustElsewhere:
		c.monitor.report(c, (*vitals).forgive)
	}
	return server.Elsewhere
}

// watchListener fails the segment at once if a listener of this process has closed the port,
// because all checks would fail from then on.
func (c *checker) watchListener() {
	listens := c.monitor.Listens(c.iface.VNIC.Segment, c.health.Port)
	c.listened = c.listened || listens
	if c.closed = c.listened && !listens; !c.closed {
		return
	}
	if _, stopped := c.monitor.Server(c.iface); stopped {
		return
	}
	c.monitor.report(c, func(v *vitals) {
		v.failing, v.streak = fmt.Sprintf("the listener on tcp/%d has closed", c.health.Port), 0
	})
}
