package vnicbridge

import (
	"log/slog"
	"strings"
	"testing"
)

// A flow table that the kernel has no room for is no reason not to start under
// datapath auto, nor to lose flows in a reload; under datapath kernel, the error
// says what to lower.
func TestFallbackOfALargeTable(t *testing.T) {
	small := newMemoryFastPath
	tooLarge := func(slow *forwarder, _ int, key hashKey, log *slog.Logger) (fastPath, error) {
		return newKernelPath(slow, 1<<30, key, log, hookMemory)
	}
	defer func() { newMemoryFastPath = small }()
	bubble(t, func(t *testing.T) {
		r := newEmptyRig(t)
		want := "lower max_flows"
		if !r.machine.kernel {
			want = errInjected.Error()
		}
		newMemoryFastPath = tooLarge
		cfg := paperConfig()
		cfg.Datapath = DatapathKernel
		if err := r.plane.Apply(cfg); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "datapath kernel: ") {
			t.Errorf("datapath kernel gives the error %v, want %s", err, want)
		}

		newMemoryFastPath = small
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.put("nic0", fromRouter(farHost, 40000, 80).tcp("S", ""))
		if got := r.plane.Status(); got.Flows != 1 || (got.Datapath == DatapathKernel) != r.machine.kernel {
			t.Fatalf("%d flows on data path %s (%s)", got.Flows, got.Datapath, got.DatapathReason)
		}

		newMemoryFastPath = tooLarge
		larger := paperConfig()
		larger.MaxFlows = 2 * DefaultMaxFlows
		if err := r.plane.Apply(larger); err != nil {
			t.Fatal(err)
		}
		got := r.plane.Status()
		if got.Datapath != DatapathUserspace || !strings.Contains(got.DatapathReason, want) {
			t.Errorf("the data path is %s because of %q", got.Datapath, got.DatapathReason)
		}
		if got.Flows != 1 {
			t.Errorf("%d flows have gone along, want 1", got.Flows)
		}
	})
}
