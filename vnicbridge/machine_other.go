//go:build !linux

package vnicbridge

func newMachine() (machine, error) { return nil, needsLinux() }
