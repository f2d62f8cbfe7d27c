package sites

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// reusable lets several sockets of this user be bound to one address.
func reusable(cfg net.ListenConfig) net.ListenConfig {
	control := cfg.Control
	cfg.Control = func(network, address string, raw syscall.RawConn) error {
		if control != nil {
			if err := control(network, address, raw); err != nil {
				return err
			}
		}
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		if err != nil {
			return err
		}
		return failed
	}
	return cfg
}
