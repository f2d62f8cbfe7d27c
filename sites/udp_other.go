//go:build !linux

package sites

import (
	"errors"
	"net"
)

// There are no segments on this system.

func reusable(cfg net.ListenConfig) net.ListenConfig { return cfg }

func inherit(_, _ *net.UDPConn) error { return nil }

func unboundUDP() (*net.UDPConn, error) { return nil, errors.ErrUnsupported }
