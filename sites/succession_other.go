//go:build !linux

package sites

import (
	"errors"
	"net"
	"os"
)

func (s *stream) duplicate() (*os.File, error) { return nil, errors.ErrUnsupported }

func stopListening(*net.TCPListener) {}
