package health

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// Monitor knows which segments serve: it checks those that are to be checked, and it is
// told which have lost their VNICs. What follows from that for new flows is the plane's
// business.
type Monitor struct {
	Surroundings

	mu     sync.Mutex               // guards the vitals; nothing is waited for while it is held
	vitals map[*iface.Iface]*vitals // by the VNICs, of those of which something is known
}

// Surroundings are what a monitor asks of the data plane. It holds no lock meanwhile.
type Surroundings struct {
	// Server returns the way to connect to the server of a VNIC's segment. If the
	// dialer is nil, nobody is to be asked now: the segment is stopped, or the
	// configuration in force does not have it.
	Server func(vnic *iface.Iface) (dial Dialer, stopped bool)
	// Listens tells whether a listener of this program has a TCP port of a segment open,
	// by the port's number.
	Listens func(segment string, number uint16) bool
	// Changed is told that something new is known of a segment.
	Changed func(vnic *iface.Iface)
}

func NewMonitor(s Surroundings) *Monitor {
	return &Monitor{Surroundings: s, vitals: make(map[*iface.Iface]*vitals)}
}

// Condition is what a monitor knows of a segment.
type Condition struct {
	Problem string    // why the segment should get no new flows; empty: it should
	lost    bool      // the VNIC is gone, and could not be made again yet
	Checked bool      // the segment is checked
	Since   time.Time // when a problem last came or went; zero: never
}

func (m *Monitor) Condition(vnic *iface.Iface) Condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.vitals[vnic]; v != nil {
		return Condition{v.problem(), v.lost, v.checker != nil, v.since}
	}
	return Condition{}
}

// Follow begins the checks that are wanted, and ends the others of the same segments; nil
// means that a segment is not checked. A check that has not changed goes on, and what it
// found stays. A new check begins anew, and the segment is healthy until the check says
// otherwise: somebody has changed the check because it was wrong, and at a start no segment
// would get flows until the first checks pass.
//
// start runs a function in a goroutine. The function returns soon after its check has ended.
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

// Forgive forgets what the checks of a segment found.
func (m *Monitor) Forgive(vnic *iface.Iface) { m.change(vnic, (*vitals).forgive) }

// SetLost takes in whether the VNIC of a segment is gone.
func (m *Monitor) SetLost(vnic *iface.Iface, lost bool) {
	m.change(vnic, func(v *vitals) { v.lost = lost })
}

// Forget ends the checks by a VNIC, and forgets all about it.
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

// report takes in what a check found, if the check is still wanted.
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
