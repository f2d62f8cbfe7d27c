//go:build !linux

package vnicbridge

import (
	"fmt"
	"runtime"
)

// needsLinux says why nothing can be put in force on this system.
func needsLinux() error {
	return fmt.Errorf("the data plane needs Linux (TAP devices, AF_PACKET): it does not run on %s; the configuration can be checked here, but not put in force", runtime.GOOS)
}
