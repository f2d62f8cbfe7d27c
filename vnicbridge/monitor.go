package vnicbridge

import (
	"context"
	"sync"
	"time"
)

// monitor knows which segments serve: it checks those that are to be checked, and it is
// told which have lost their VNICs. What follows from that for new flows is the plane's
// business.
type monitor struct {
	surroundings

	mu     sync.Mutex        // guards the vitals; nothing is waited for while it is held
	vitals map[*port]*vitals // by the VNICs, of those of which something is known
}

// surroundings are what a monitor asks of the data plane. It holds no lock meanwhile.
type surroundings struct {
	// server returns the way to connect to the server of a VNIC's segment. If the
	// dialer is nil, nobody is to be asked now: the segment is stopped, or the
	// configuration in force does not have it.
	server func(vnic *port) (dial dialer, stopped bool)
	// listens tells whether a listener of this program has a TCP port of a segment open,
	// by the port's number.
	listens func(segment string, number uint16) bool
	// changed is told that something new is known of a segment.
	changed func(vnic *port)
}

func newMonitor(s surroundings) *monitor {
	return &monitor{surroundings: s, vitals: make(map[*port]*vitals)}
}

// condition is what a monitor knows of a segment.
type condition struct {
	problem string    // why the segment should get no new flows; empty: it should
	lost    bool      // the VNIC is gone, and could not be made again yet
	checked bool      // the segment is checked
	since   time.Time // when a problem last came or went; zero: never
}

func (m *monitor) condition(vnic *port) condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.vitals[vnic]; v != nil {
		return condition{v.problem(), v.lost, v.checker != nil, v.since}
	}
	return condition{}
}

// follow begins the checks that are wanted, and ends the others of the same segments; nil
// means that a segment is not checked. A check that has not changed goes on, and what it
// found stays. A new check begins anew, and the segment is healthy until the check says
// otherwise: somebody has changed the check because it was wrong, and at a start no segment
// would get flows until the first checks pass.
//
// start runs a function in a goroutine. The function returns soon after its check has ended.
func (m *monitor) follow(wanted map[*port]*Health, start func(func())) {
	for vnic, want := range wanted {
		m.change(vnic, func(v *vitals) {
			if v.checker == nil && want == nil || v.checker != nil && want != nil && v.checker.health == want.withDefaults() {
				return
			}
			v.stopChecks()
			v.forgive()
			if want == nil {
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			c := &checker{monitor: m, port: vnic, health: want.withDefaults(), cancel: cancel}
			v.checker = c
			start(func() { c.run(ctx) })
		})
	}
}

// forgive forgets what the checks of a segment found.
func (m *monitor) forgive(vnic *port) { m.change(vnic, (*vitals).forgive) }

// setLost takes in whether the VNIC of a segment is gone.
func (m *monitor) setLost(vnic *port, lost bool) {
	m.change(vnic, func(v *vitals) { v.lost = lost })
}

// forget ends the checks by a VNIC, and forgets all about it.
func (m *monitor) forget(vnic *port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.vitals[vnic]; v != nil {
		v.stopChecks()
		delete(m.vitals, vnic)
	}
}

func (m *monitor) change(vnic *port, do func(*vitals)) {
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
func (m *monitor) report(c *checker, found func(*vitals)) {
	if m.takeIn(c, found) {
		m.changed(c.port)
	}
}

func (m *monitor) takeIn(c *checker, found func(*vitals)) (wanted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.vitals[c.port]
	if v == nil || v.checker != c {
		return false
	}
	v.change(found)
	return true
}
