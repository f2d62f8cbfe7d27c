package sites

import (
	"cmp"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Package net's values for a field that is 0.
const (
	keepAlivePeriod = 15 * time.Second
	keepAliveCount  = 9
)

// bequeath sets the keep-alive of a listening socket. The connections that it accepts
// inherit the settings that package net would make on each.
func bequeath(l *net.TCPListener, cfg net.KeepAliveConfig) error {
	if !cfg.Enable {
		return nil
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return onDescriptor(raw, func(fd int) error {
		for _, o := range []struct{ level, name, value int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, wholeSeconds(cfg.Idle)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, wholeSeconds(cfg.Interval)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, cmp.Or(cfg.Count, keepAliveCount)},
		} {
			if o.value < 0 {
				continue // a negative value leaves the option unchanged
			}
			if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
				return err
			}
		}
		return nil
	})
}

func wholeSeconds(d time.Duration) int {
	d = cmp.Or(d, keepAlivePeriod)
	if d < 0 {
		return -1
	}
	return int((d + time.Second - 1) / time.Second)
}
