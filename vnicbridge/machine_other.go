//go:build !linux

package vnicbridge

import (
	"fmt"
	"runtime"
)

func newMachine() (machine, error) {
	return nil, fmt.Errorf("the data plane needs Linux (TAP devices, AF_PACKET): it does not run on %s; the configuration can be checked here, but not put in force", runtime.GOOS)
}
