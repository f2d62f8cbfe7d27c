package main

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

// cpuTimes are CPU times used so far.
type cpuTimes struct{ plane, machine time.Duration }

func (s *site) cpuTimes() (t cpuTimes, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t, err
	}
	if t.machine, err = parseMachineCPU(stat); err != nil || s.pid == 0 {
		return t, err
	}
	t.plane, err = processCPU(s.pid)
	return t, err
}

// processCPU is the CPU time of a process and its children.
func processCPU(pid int) (sum time.Duration, err error) {
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

// memoryUse is a process's memory in bytes.
type memoryUse struct {
	resident int64
	maps     int64 // BPF maps, which are in the kernel
}

func memory(pid int) (m memoryUse, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	if m.resident, err = parseMemory(status); err != nil {
		return m, err
	}
	m.maps, err = mapMemory(pid)
	return m, err
}

// mapMemory is what the BPF maps take that a process has open.
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
