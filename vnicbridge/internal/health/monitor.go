package health

import (
	"context"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
)

// Monitor knows which segments serve. It runs the checks that the configuration asks for,
// and the plane tells it which VNICs are lost. The plane decides what follows for new flows.
type Monitor struct {
	Surroundings

	mu     lockorder.Mutex[lockorder.Health] // nothing waits while it is held
	vitals map[*iface.Iface]*vitals          // by VNIC; segments of which nothing is known are missing
}

// Surroundings are the functions of the data plane that a monitor calls. It holds no lock
// while it calls them.
type Surroundings struct {
	// Server returns the way to the server of a VNIC's segment. If its Dial is nil, the segment
	// must not be probed now: it is stopped, or the configuration in force lacks it.
	Server func(vnic *iface.Iface) (server Server, stopped bool)
	// Listens tells whether a listener of this process has a TCP port open on a segment.
	Listens func(segment string, number uint16) bool
	// Changed is called after a check has reported a result.
	Changed func(vnic *iface.Iface)
}

// NewMonitor returns a monitor that checks nothing yet.
func NewMonitor(s Surroundings) *Monitor {
	return &Monitor{Surroundings: s, vitals: make(map[*iface.Iface]*vitals)}
}

// Condition is what a monitor knows of a segment.
type Condition struct {
	Problem string    // why the segment should get no new flows; empty if it should
	lost    bool      // the server cannot be reached
	Checked bool      // health checks run
	Since   time.Time // when a problem last came or went; zero if never
}

// Condition returns what the monitor knows of a VNIC's segment.
func (m *Monitor) Condition(vnic *iface.Iface) Condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.vitals[vnic]; v != nil {
		return Condition{v.problem(), v.lost != "", v.checker != nil, v.since}
	}
	return Condition{}
}

// Follow starts and ends health checks as wanted, by VNIC; nil means no check. If a check is
// unchanged, it goes on and its results stay. If it is new or has changed, its segment is
// healthy until it fails, for two reasons: at a start, no segment would get flows before its
// first checks pass; and an admin changes a check because its results were wrong.
//
// start must run a function in a goroutine. The function returns soon after its check ends.
func (m *Monitor) Follow(wanted map[*iface.Iface]*config.Health, start func(func())) {
	for vnic, want := range wanted {
		m.change(vnic, func(v *vitals) {
			if v.checker == nil && want == nil || v.checker != nil && want != nil && v.checker.health == want.WithDefaults() {
				return
			}
			v.stopChecks()
			v.forgive()
			if want == nil {
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			c := &checker{monitor: m, iface: vnic, health: want.WithDefaults(), cancel: cancel}
			v.checker = c
			start(func() { c.run(ctx) })
		})
	}
}

// Forgive forgets the results of a segment's checks: the segment is healthy until they fail
// again.
func (m *Monitor) Forgive(vnic *iface.Iface) { m.change(vnic, (*vitals).forgive) }

// SetLost records why the server of a segment cannot be reached, because of the VNIC or the device
// in its place; empty: it can.
func (m *Monitor) SetLost(vnic *iface.Iface, why string) {
	m.change(vnic, func(v *vitals) { v.lost = why })
}

// Forget ends the check of a VNIC's segment and forgets the segment's condition.
func (m *Monitor) Forget(vnic *iface.Iface) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.vitals[vnic]; v != nil {
		v.stopChecks()
		delete(m.vitals, vnic)
	}
}

func (m *Monitor) change(vnic *iface.Iface, do func(*vitals)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.vitals[vnic]
	if v == nil {
		v = new(vitals)
		m.vitals[vnic] = v
	}
	v.change(do)
}

// report records the result of a check, if the check has not ended meanwhile.
func (m *Monitor) report(c *checker, found func(*vitals)) {
	if m.takeIn(c, found) {
		m.Changed(c.iface)
	}
}

func (m *Monitor) takeIn(c *checker, found func(*vitals)) (wanted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.vitals[c.iface]
	if v == nil || v.checker != c {
		return false
	}
	v.change(found)
	return true
}
