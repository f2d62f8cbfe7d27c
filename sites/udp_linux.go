package sites

import (
	"fmt"
	"net"
	"os"
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
		return onDescriptor(raw, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
	}
	return cfg
}

// inherited are the options that QUIC sets on its socket: the buffers, whose sizes the kernel
// reports doubled; the DF bit, which path MTU discovery needs; and the reception of
// congestion marks (ECN).
var inherited = []struct{ level, get, set, divisor int }{
	{unix.SOL_SOCKET, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, 2},
	{unix.SOL_SOCKET, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, 2},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU_DISCOVER, 1},
	{unix.IPPROTO_IP, unix.IP_RECVTOS, unix.IP_RECVTOS, 1},
}

// inherit copies the options of an older socket.
func inherit(socket, old *net.UDPConn) error {
	for _, o := range inherited {
		var value int
		err := control(old, func(fd int) (err error) {
			value, err = unix.GetsockoptInt(fd, o.level, o.get)
			return err
		})
		if err == nil {
			err = control(socket, func(fd int) error { return unix.SetsockoptInt(fd, o.level, o.set, value/o.divisor) })
		}
		if err != nil {
			return fmt.Errorf("socket option %d/%d: %w", o.level, o.set, err)
		}
	}
	return nil
}

func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return onDescriptor(raw, f)
}

func onDescriptor(raw syscall.RawConn, f func(fd int) error) (err error) {
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// unboundUDP returns a socket that receives nothing.
func unboundUDP() (*net.UDPConn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "udp")
	defer file.Close() // FilePacketConn has its own descriptor
	pc, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}
