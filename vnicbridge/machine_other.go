//go:build !linux

package vnicbridge

import "github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"

func newMachine() (machine, error) { return nil, host.NeedsLinux() }
