package kernel

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ProgramClock returns the time of BPF programs (bpf_ktime_get_ns) in nanoseconds. It is the
// machine's CLOCK_MONOTONIC. In a time namespace (time_namespaces(7)), such as that of a
// restored container, this process's CLOCK_MONOTONIC differs from it.
func ProgramClock() int64 {
	var now unix.Timespec
	// It fails only for an unknown clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano() - monotonicOffset()
}

// monotonicOffset returns how many nanoseconds this process's CLOCK_MONOTONIC is ahead of the
// machine's. A process never leaves its time namespace, so the offset is read once.
var monotonicOffset = sync.OnceValue(func() int64 {
	mine, err := os.Readlink("/proc/self/ns/time")
	if err != nil {
		return 0 // a kernel without time namespaces
	}
	// The file has the offsets of the namespace in which children begin.
	if theirs, err := os.Readlink("/proc/self/ns/time_for_children"); err != nil || theirs != mine {
		return 0
	}
	offsets, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0
	}
	return parseMonotonicOffset(string(offsets))
})

// parseMonotonicOffset parses /proc/<pid>/timens_offsets. Each line has a clock, seconds and
// nanoseconds.
func parseMonotonicOffset(offsets string) int64 {
	for line := range strings.Lines(offsets) {
		var seconds, nanoseconds int64
		if _, err := fmt.Sscanf(line, "monotonic %d %d", &seconds, &nanoseconds); err == nil {
			return seconds*1e9 + nanoseconds
		}
	}
	return 0
}
