package kernel

import (
	"bytes"
	"fmt"
	"os"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
)

// checkMemory returns an error if the maps of a flow table need more than half of the
// available memory. A kernel that is asked for too much first takes memory from all other
// programs, and only then refuses.
func checkMemory(maxFlows int, extras flow.Extras) error {
	available, err := availableMemory()
	if err != nil {
		return err
	}
	each := int64(flow.FlowBytes)
	if extras.Wide {
		each += flow.WideBytes
	}
	if extras.Named {
		each += flow.ShiftBytes
	}
	if needed := int64(maxFlows) * each; needed > available/2 {
		return fmt.Errorf("a table of %d flows takes %d MiB of memory, more than half of the %d MiB that are available: lower max_flows",
			maxFlows, needed>>20, available>>20)
	}
	return nil
}

// availableMemory returns how many bytes the kernel can give without taking any from a
// process (proc_meminfo(5)), or the limit of this process's control group if that is less.
// Maps count towards the limit, and beyond it the kernel kills the process.
func availableMemory() (int64, error) {
	const name = "/proc/meminfo"
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	var kibibytes int64
	_, line, _ := bytes.Cut(text, []byte("\nMemAvailable:"))
	if _, err := fmt.Fscan(bytes.NewReader(line), &kibibytes); err != nil {
		return 0, fmt.Errorf("%s: MemAvailable: %w", name, err)
	}
	available := kibibytes << 10
	if limit, err := memlimit.FromCgroup(); err == nil && limit < uint64(available) {
		available = int64(limit)
	}
	return available, nil
}
