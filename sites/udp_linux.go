package sites

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
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

// socketOption is an option, whose names can differ for reading and writing it.
type socketOption struct{ level, get, set int }

// inherited are the options that QUIC sets on its socket, for each family: the buffers, whose
// sizes the kernel reports doubled; the DF bit, which path MTU discovery needs; and the
// reception of congestion marks (ECN). Their values mean the same in both families.
var inherited = []struct {
	divisor int
	option  [config.Families]socketOption
}{
	{2, bothFamilies(unix.SOL_SOCKET, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE)},
	{2, bothFamilies(unix.SOL_SOCKET, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE)},
	{1, [...]socketOption{
		config.IPv4: {unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU_DISCOVER},
		config.IPv6: {unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU_DISCOVER},
	}},
	{1, [...]socketOption{
		config.IPv4: {unix.IPPROTO_IP, unix.IP_RECVTOS, unix.IP_RECVTOS},
		config.IPv6: {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, unix.IPV6_RECVTCLASS},
	}},
}

func bothFamilies(level, get, set int) [config.Families]socketOption {
	o := socketOption{level, get, set}
	return [...]socketOption{config.IPv4: o, config.IPv6: o}
}

// inherit copies the options of an older socket, which may be of the other family.
func inherit(socket, old *net.UDPConn) error {
	for _, o := range inherited {
		var value int
		err := onOption(old, o.option, func(fd int, o socketOption) (err error) {
			value, err = unix.GetsockoptInt(fd, o.level, o.get)
			return err
		})
		if err != nil {
			return err
		}
		err = onOption(socket, o.option, func(fd int, own socketOption) error {
			return unix.SetsockoptInt(fd, own.level, own.set, value/o.divisor)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// onOption calls f with a socket and the option of the socket's family.
func onOption(socket *net.UDPConn, options [config.Families]socketOption, f func(fd int, o socketOption) error) error {
	return control(socket, func(fd int) error {
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return os.NewSyscallError("getsockopt", err)
		}
		o := options[config.IPv4]
		if domain == unix.AF_INET6 {
			o = options[config.IPv6]
		}
		if err := f(fd, o); err != nil {
			return fmt.Errorf("socket option %d/%d: %w", o.level, o.set, err)
		}
		return nil
	})
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
	return udpConn(fd)
}

// duplicate returns the same socket under another descriptor.
func duplicate(socket *net.UDPConn) (*net.UDPConn, error) {
	var other int
	err := control(socket, func(fd int) (err error) {
		other, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return os.NewSyscallError("fcntl", err)
	})
	if err != nil {
		return nil, err
	}
	return udpConn(other)
}

// udpConn takes over a descriptor.
func udpConn(fd int) (*net.UDPConn, error) {
	file := os.NewFile(uintptr(fd), "udp")
	defer file.Close() // FilePacketConn has its own descriptor
	pc, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}
