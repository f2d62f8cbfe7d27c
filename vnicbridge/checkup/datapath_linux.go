package checkup

import (
	"fmt"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
)

// datapath reports if the kernel data path cannot be used here. It loads the maps and
// programs, and unloads them at once.
func (c *checkup) datapath() {
	if c.cfg.Datapath == config.DatapathUserspace {
		return
	}
	maxFlows := c.cfg.MaxFlowsOrDefault()
	if len(c.opts.Own) > 0 {
		maxFlows = 1 // a second table would take as much memory as that of the instance that runs
	}
	err := kernel.Try(maxFlows)
	switch {
	case err == nil:
	case c.cfg.Datapath == config.DatapathKernel:
		c.error(fmt.Errorf("datapath kernel: %w", err))
	default:
		c.warn("packets will be carried in userspace, at a fraction of the speed, because the kernel data path cannot be used: %v", err)
	}
}
