//go:build soak

package integration_test

import (
	"fmt"
	"testing"
)

// soakReloads is a longer TestReloadUnderLoad. No datagram and no connection may be lost, and
// no reload may leave a descriptor, BPF map, goroutine or device.
func soakReloads(t *testing.T, datapath string) []figure {
	r := reloadUnderLoad(t, datapath, soaked(1000))
	return []figure{
		{"reloads, of which a fifth fail", fmt.Sprint(r.reloads)},
		{"datagrams of one flow beside them, lost, twice or late", fmt.Sprintf("0 of %d", r.datagrams)},
		{"open connections lost", "0 of 2"},
		{"before the first", r.before.String()},
		{"after the last", r.after.String()},
		{"devices, addresses, routes, rules and sysctls", "as before"},
	}
}
