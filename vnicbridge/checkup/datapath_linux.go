package checkup

import (
	"fmt"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
)

// datapath tells whether the kernel data path can be used here, by loading its maps
// and programs, which go again at once.
func (c *checkup) datapath() {
	if c.cfg.Datapath == config.DatapathUserspace {
		return
	}
	maxFlows := c.cfg.MaxFlowsOrDefault()
	if len(c.opts.Own) > 0 {
		maxFlows = 1 // the instance that runs has a table, whose memory would be taken once more
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
