// Package gauge has what the benchmark and the soak test share: it reads what the
// machine and its processes use, and writes figures into pages of the documentation.
package gauge

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of the kernel's CPU times for userspace (USER_HZ, time(7)). It is the
// same on every architecture of Go.
const clockTick = 10 * time.Millisecond

// processStat has values of /proc/PID/stat (proc_pid_stat(5)).
type processStat struct {
	parent int
	cpu    time.Duration // user and system, of all threads
}

func parseProcessStat(stat []byte) (p processStat, err error) {
	// The second column is a name in parentheses, which may have blanks and parentheses.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return p, fmt.Errorf("process status %q: too few columns", stat)
	}
	if p.parent, err = strconv.Atoi(fields[1]); err != nil {
		return p, err
	}
	for _, field := range fields[11:13] { // utime, stime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return p, err
		}
		p.cpu += time.Duration(ticks) * clockTick
	}
	return p, nil
}

// parseMachineCPU returns how long the processors were busy, from /proc/stat (proc_stat(5)).
// It leaves out idle, iowait, what a hypervisor took, and what guests used.
func parseMachineCPU(stat []byte) (busy time.Duration, err error) {
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("CPU times %q: want a line cpu with 7 columns", line)
	}
	for _, column := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
		ticks, err := strconv.ParseInt(fields[column], 10, 64)
		if err != nil {
			return 0, err
		}
		busy += time.Duration(ticks) * clockTick
	}
	return busy, nil
}

// parseMemory returns a process's resident memory in bytes, from /proc/PID/status
// (proc_pid_status(5)).
func parseMemory(status []byte) (int64, error) {
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS in %q", status)
}

// parseMap returns the identifier of a BPF map and the bytes of memory that it takes, from
// /proc/PID/fdinfo/FD. ok is false for any other file. Before Linux 6.4 the kernel gives an
// estimate.
func parseMap(fdinfo []byte) (id, size int64, ok bool, err error) {
	for line := range strings.Lines(string(fdinfo)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "memlock":
			size, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		case "map_id":
			ok = true
			id, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
		if err != nil {
			return 0, 0, false, fmt.Errorf("BPF map %q: %w", line, err)
		}
	}
	return id, size, ok, nil
}
