//go:build !linux

package integration

import (
	"context"
	"errors"
	"runtime"
)

// RunLab needs Linux: elsewhere it only says so.
func RunLab(context.Context, LabOptions) error {
	return errors.New("lab: it is made of Linux network namespaces, and this is " + runtime.GOOS)
}
