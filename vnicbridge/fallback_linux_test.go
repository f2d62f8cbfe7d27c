package vnicbridge

import (
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
)

// A flow table that the kernel has no room for is no reason not to start under
// datapath auto, nor to lose flows in a reload; under datapath kernel, the error
// says what to lower.
func TestFallbackOfALargeTable(t *testing.T) {
	small := newMemoryPath
	tooLarge := func(o kernel.Options) (kernelPath, error) {
		o.MaxFlows = 1 << 30
		return kernel.New(o, hookMemory)
	}
	defer func() { newMemoryPath = small }()
	bubble(t, func(t *testing.T) {
		r := newEmptyRig(t)
		want := "lower max_flows"
		if !r.machine.kernel {
			want = errInjected.Error()
		}
		newMemoryPath = tooLarge
		cfg := paperConfig()
		cfg.Datapath = config.DatapathKernel
		if err := r.plane.Apply(cfg); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "datapath kernel: ") {
			t.Errorf("datapath kernel gives the error %v, want %s", err, want)
		}

		newMemoryPath = small
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.put("nic0", fromRouter(farHost, 40000, 80).tcp("S", ""))
		if got := r.plane.Status(); got.Flows != 1 || (got.Datapath == config.DatapathKernel) != r.machine.kernel {
			t.Fatalf("%d flows on data path %s (%s)", got.Flows, got.Datapath, got.DatapathReason)
		}

		newMemoryPath = tooLarge
		larger := paperConfig()
		larger.MaxFlows = 2 * config.DefaultMaxFlows
		if err := r.plane.Apply(larger); err != nil {
			t.Fatal(err)
		}
		got := r.plane.Status()
		if got.Datapath != config.DatapathUserspace || !strings.Contains(got.DatapathReason, want) {
			t.Errorf("the data path is %s because of %q", got.Datapath, got.DatapathReason)
		}
		if got.Flows != 1 {
			t.Errorf("%d flows have gone along, want 1", got.Flows)
		}
	})
}
