//go:build !linux

package sites

import "net"

// reusable changes nothing: there are no segments on this system.
func reusable(cfg net.ListenConfig) net.ListenConfig { return cfg }
