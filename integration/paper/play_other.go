//go:build !linux

package paper

import (
	"context"
	"errors"
	"runtime"
)

// Enter needs Linux, too.
func Enter(string, string, []string) error { return Play(context.Background(), Options{}) }

// Play needs Linux: elsewhere it only says so.
func Play(context.Context, Options) error {
	return errors.New("lab: it is made of Linux network namespaces, and this is " + runtime.GOOS)
}
