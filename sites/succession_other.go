//go:build !linux

package sites

import (
	"errors"
	"net"
	"os"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

func (s *stream) duplicate() (*os.File, error) { return nil, errors.ErrUnsupported }

func stopListening(*net.TCPListener) {}

func (*packetConn) files(succession.Files) error { return errors.ErrUnsupported }
