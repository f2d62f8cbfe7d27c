package health

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// vitals are what is known of a segment's health. The monitor's lock guards them.
type vitals struct {
	checker *checker // nil if the segment is not checked

	failing string    // the problem that the checks found; empty if none
	streak  int       // how many checks in a row contradict failing
	lost    string    // why the server cannot be reached; empty: it can
	since   time.Time // when a problem last came or went
}

// problem returns why the segment should get no new flows, or "" if it should.
func (v *vitals) problem() string {
	if v.lost != "" {
		return v.lost
	}
	return v.failing
}

// change runs a function that changes the vitals, and records when a problem comes or goes.
func (v *vitals) change(do func(*vitals)) {
	before := v.problem() == ""
	do(v)
	if (v.problem() == "") != before {
		v.since = time.Now()
	}
}

// count counts the result of a check. Only h.Fails failures or h.Passes passes in a row
// change the segment's health.
func (v *vitals) count(err error, h config.Health) {
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

// forgive forgets the results of the checks.
func (v *vitals) forgive() { v.failing, v.streak = "", 0 }

func (v *vitals) stopChecks() {
	if v.checker != nil {
		v.checker.cancel()
		v.checker = nil
	}
}
