//go:build !linux

package paper

import (
	"context"
	"errors"
	"runtime"
)

// Play needs Linux: elsewhere it only says so.
func Play(context.Context, Options) error {
	return errors.New("lab: it is made of Linux network namespaces, and this is " + runtime.GOOS)
}
