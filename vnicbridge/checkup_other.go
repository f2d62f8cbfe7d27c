//go:build !linux

package vnicbridge

func (c *checkup) run() { c.error(needsLinux()) }
