//go:build !linux

package succession

import (
	"errors"
	"os"
)

// Memory is not supported: only Linux has a data plane.
func Memory(string, []byte) (*os.File, error) { return nil, errors.ErrUnsupported }
