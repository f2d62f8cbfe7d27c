//go:build soak

package integration_test

import (
	"fmt"
	"testing"
)

// soakReloads is TestReloadUnderLoad for longer: no datagram and no connection is
// lost, and no descriptor, BPF map, goroutine or device is left of any reload.
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
