package main

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// cpuTimes has the CPU times used so far, by the data plane's process and by the machine.
type cpuTimes struct{ plane, machine time.Duration }

func (s *site) cpuTimes() (t cpuTimes, err error) {
	if t.machine, err = gauge.MachineCPU(); err != nil || s.pid == 0 {
		return t, err
	}
	t.plane, err = gauge.ProcessCPU(s.pid)
	return t, err
}
