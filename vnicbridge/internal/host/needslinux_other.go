//go:build !linux

package host

import (
	"fmt"
	"runtime"
)

// NeedsLinux returns the error that says why nothing can be put in force on this system.
func NeedsLinux() error {
	return fmt.Errorf("the data plane needs Linux (TAP devices, AF_PACKET): it does not run on %s; the configuration can be checked here, but not put in force", runtime.GOOS)
}
