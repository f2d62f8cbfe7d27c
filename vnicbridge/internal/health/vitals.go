package health

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// vitals are what is known of a segment's health. They live as long as its VNIC.
type vitals struct {
	checker *checker // nil: the segment is not checked

	failing string // what the checks found wrong; empty: nothing
	streak  int    // of checks in a row that say otherwise
	lost    bool   // the VNIC is gone, and could not be made again yet
	since   time.Time
}

// problem is why the segment should get no new flows, or "".
func (v *vitals) problem() string {
	if v.lost {
		return "its VNIC is gone"
	}
	return v.failing
}

// change lets a function change what is known, and notes when a problem comes or goes.
func (v *vitals) change(do func(*vitals)) {
	before := v.problem() == ""
	do(v)
	if (v.problem() == "") != before {
		v.since = time.Now()
	}
}

// count takes in the result of a check.
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

// forgive forgets what the checks found.
func (v *vitals) forgive() { v.failing, v.streak = "", 0 }

func (v *vitals) stopChecks() {
	if v.checker != nil {
		v.checker.cancel()
		v.checker = nil
	}
}
