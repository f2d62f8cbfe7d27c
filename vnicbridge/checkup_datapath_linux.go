package vnicbridge

import (
	"fmt"
	"log/slog"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// datapath tells whether the kernel data path can be used here, by loading its maps
// and programs, which go again at once.
func (c *checkup) datapath() {
	if c.cfg.Datapath == DatapathUserspace {
		return
	}
	maxFlows := c.cfg.maxFlows()
	if len(c.opts.Own) > 0 {
		maxFlows = 1 // the instance that runs has a table, whose memory would be taken once more
	}
	err := tryKernelPath(maxFlows)
	switch {
	case err == nil:
	case c.cfg.Datapath == DatapathKernel:
		c.error(fmt.Errorf("datapath kernel: %w", err))
	default:
		c.warn("packets will be carried in userspace, at a fraction of the speed, because the kernel data path cannot be used: %v", err)
	}
}

func tryKernelPath(maxFlows int) error {
	if err := require(datapathCapabilities); err != nil {
		return err
	}
	slow := newForwarder(new(openPorts), func() int64 { return 0 })
	k, err := newKernelPath(slow, maxFlows, hashKey{}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer k.close()
	for _, name := range []string{bpf.BridgeProgFromNic, bpf.BridgeProgFromVnic} {
		program, err := k.load(programKey{name: name})
		if err != nil {
			return err
		}
		_ = program.Close()
	}
	return nil
}
