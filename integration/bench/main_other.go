//go:build !linux

package main

import (
	"context"
	"errors"
)

const plainBridgeCommand = "plain-bridge"

var errNotLinux = errors.New("measuring needs Linux; elsewhere only -from works")

func measure(context.Context, settings) (*Result, error) { return nil, errNotLinux }

func runPlainBridge([]string) error { return errNotLinux }
