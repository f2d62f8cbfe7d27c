//go:build !linux

package sites

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

// There are no segments on this system.

func reusable(cfg net.ListenConfig) net.ListenConfig { return cfg }

func inherit(_, _ *net.UDPConn) error { return nil }

func duplicate(*net.UDPConn) (*net.UDPConn, error) { return nil, errors.ErrUnsupported }

const dontWait = 0

type poller struct{ *os.File }

func newPoller([]*udpSocket) (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) wait(func() (done bool)) error { return errors.ErrUnsupported }

func putPacketInfo([]byte, netip.Addr) int { return 0 }

func takeControl([]byte) (source netip.Addr, segment int, rest []byte, err error) {
	return source, 0, nil, errors.ErrUnsupported
}

func unboundUDP() (*net.UDPConn, error) { return nil, errors.ErrUnsupported }

func bequeath(*net.TCPListener, net.KeepAliveConfig) error { return nil }

func (c *Conn) splice(*Source, int64) (sent int64, able bool, err error) { return 0, false, nil }
