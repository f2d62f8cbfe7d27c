//go:build !linux

package sites

import (
	"errors"
	"os"
)

func (s *stream) duplicate() (*os.File, error) { return nil, errors.ErrUnsupported }
