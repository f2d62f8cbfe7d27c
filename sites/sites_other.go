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

func bequeath(*net.TCPListener, net.KeepAliveConfig) error { return nil }

func (c *Conn) splice(*Source, int64) (sent int64, able bool, err error) { return 0, false, nil }
