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

// memory is the resident memory of a process in bytes.
func memory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseMemory(status)
}
