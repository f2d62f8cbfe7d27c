package gauge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// MachineCPU returns how long the machine's processors were busy since its start.
func MachineCPU() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachineCPU(stat)
}

// ProcessCPU returns the CPU time that a process and its children have used.
func ProcessCPU(pid int) (sum time.Duration, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, err
		}
		stat, err := parseProcessStat(content)
		if err != nil {
			return 0, err
		}
		if stat.parent == pid || filepath.Base(filepath.Dir(path)) == strconv.Itoa(pid) {
			sum += stat.cpu
		}
	}
	return sum, nil
}

// Memory is the memory that a process takes, in bytes.
type Memory struct {
	Resident int64 `json:"resident"`
	Maps     int64 `json:"maps"` // BPF maps, which are in the kernel
}

// ProcessMemory returns the memory that a process takes now.
func ProcessMemory(pid int) (m Memory, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	if m.Resident, err = parseMemory(status); err != nil {
		return m, err
	}
	m.Maps, err = mapMemory(pid)
	return m, err
}

// mapMemory returns the memory of the BPF maps that a process has open.
func mapMemory(pid int) (sum int64, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return 0, err
	}
	seen := make(map[int64]bool)
	for _, file := range files {
		info, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has been closed
		}
		if err != nil {
			return 0, err
		}
		id, size, ok, err := parseMap(info)
		if err != nil {
			return 0, err
		}
		if ok && !seen[id] {
			seen[id] = true
			sum += size
		}
	}
	return sum, nil
}
