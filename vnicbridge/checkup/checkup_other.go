//go:build !linux

package checkup

import "github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"

func (c *checkup) run() { c.error(host.NeedsLinux()) }
