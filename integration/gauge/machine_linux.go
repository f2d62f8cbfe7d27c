package gauge

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ThisMachine describes the machine on which this process runs.
func ThisMachine() (m Machine, err error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, err
	}
	m = Machine{
		CPU: runtime.GOARCH, Cores: runtime.NumCPU(),
		MemoryMiB: int(uint64(info.Totalram) * uint64(info.Unit) >> 20),
		Kernel:    unix.ByteSliceToString(name.Release[:]),
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpuinfo)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m, err
}
