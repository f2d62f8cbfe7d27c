//go:build !linux

package leanproxy

import "errors"

type peeker struct{}

// readNow has no implementation here. It reports that nothing has come.
func (c *conn) readNow([]byte) (n int, err error) { return 0, errors.ErrUnsupported }

// quiet has no implementation here, so no connection is used twice.
func (c *conn) quiet() bool { return false }
