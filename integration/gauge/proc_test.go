package gauge

import (
	"strings"
	"testing"
	"time"
)

func TestParseProc(t *testing.T) {
	process, err := parseProcessStat([]byte("4711 (a name) with (odd) S 1 4711 4711 0 -1 4194560 9 0 0 0 150 75 0 0 20 0 9 0 1 1 1"))
	if want := (processStat{parent: 1, cpu: 2250 * time.Millisecond}); err != nil || process != want {
		t.Errorf("process %+v (%v), want %+v", process, err, want)
	}
	busy, err := parseMachineCPU([]byte("cpu  100 10 200 9999 50 5 35 7 0 0\ncpu0 50 5 100 5000 25 2 15 3 0 0\n"))
	if want := 3500 * time.Millisecond; err != nil || busy != want {
		t.Errorf("busy %v (%v), want %v", busy, err, want)
	}
	memory, err := parseMemory([]byte("Name:\tcaddy\nVmHWM:\t   90000 kB\nVmRSS:\t   69632 kB\n"))
	if want := int64(68 << 20); err != nil || memory != want {
		t.Errorf("memory %d (%v), want %d", memory, err, want)
	}
	if _, err := parseProcessStat([]byte("1 (x) S 1")); err == nil {
		t.Error("a short process status is no error")
	}
	if _, err := parseMachineCPU([]byte("intr 1 2 3 4 5 6 7 8")); err == nil {
		t.Error("CPU times without a line cpu are no error")
	}
	if _, err := parseMemory([]byte("Name:\tkthreadd\n")); err == nil {
		t.Error("a process without memory is no error")
	}
}

func TestParseMap(t *testing.T) {
	const hash = "pos:\t0\nflags:\t02000002\nmap_type:\t1\nkey_size:\t16\nmax_entries:\t1048576\nmemlock:\t218104832\nmap_id:\t42\nfrozen:\t0\n"
	id, size, ok, err := parseMap([]byte(hash))
	if err != nil || !ok || id != 42 || size != 218104832 {
		t.Errorf("map %d of %d bytes, %v (%v), want map 42 of 218104832", id, size, ok, err)
	}
	if _, _, ok, err := parseMap([]byte("pos:\t0\nflags:\t02\nprog_type:\t3\nprog_id:\t7\nmemlock:\t4096\n")); ok || err != nil {
		t.Errorf("a program is a map: %v (%v)", ok, err)
	}
	if _, _, _, err := parseMap([]byte(strings.Replace(hash, "218104832", "many", 1))); err == nil {
		t.Error("a size that is no number is no error")
	}
}
