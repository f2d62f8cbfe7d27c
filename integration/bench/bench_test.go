package main

import (
	"bytes"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseWrk(t *testing.T) {
	output, err := os.ReadFile("testdata/wrk.txt")
	if err != nil {
		t.Fatal(err)
	}
	totals, err := parseWrk(output)
	if err != nil {
		t.Fatal(err)
	}
	want := wrkTotals{Requests: 160131, Bytes: 202404944, Microseconds: 1000725, Timeout: 2}
	if totals != want {
		t.Errorf("totals %+v, want %+v", totals, want)
	}
	if rate := totals.requestRate(); math.Abs(rate-160014.99) > 0.01 {
		t.Errorf("%f requests/s, wrk says 160014.99", rate)
	}
	if rate := totals.megabytes(); math.Abs(rate-192.89*1.048576) > 0.01 {
		t.Errorf("%f MB/s, wrk says 192.89 MiB/s", rate)
	}
	if broken := totals.broken(); broken != 2 {
		t.Errorf("%d broken requests, want 2", broken)
	}
	for name, output := range map[string]string{
		"no report":    "Running 1s test\n",
		"cut off":      `wrk-report {"requests":12`,
		"no answer":    `wrk-report {"requests":0,"microseconds":1000000}`,
		"wrong answer": `wrk-report {"requests":10,"microseconds":1000000,"failed":1}`,
	} {
		if totals, err := parseWrk([]byte(output)); err == nil {
			t.Errorf("%s: %+v, want an error", name, totals)
		}
	}
}

func TestParseIperf3(t *testing.T) {
	output, err := os.ReadFile("testdata/iperf3.json")
	if err != nil {
		t.Fatal(err)
	}
	rate, err := parseIperf3(output)
	if err != nil {
		t.Fatal(err)
	}
	if want := 21.94; math.Abs(rate-want) > 0.01 {
		t.Errorf("%f Gbit/s, want %f", rate, want)
	}
	_, err = parseIperf3([]byte(`{"start":{},"end":{},"error":"unable to connect to server: Connection refused"}`))
	if err == nil || !strings.Contains(err.Error(), "Connection refused") {
		t.Errorf("error %v, want iperf3's own", err)
	}
	for _, output := range []string{"", "{}", "iperf3: error"} {
		if rate, err := parseIperf3([]byte(output)); err == nil {
			t.Errorf("%q: %f Gbit/s, want an error", output, rate)
		}
	}
}

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

func TestParseH2load(t *testing.T) {
	output, err := os.ReadFile("testdata/h2load.txt")
	if err != nil {
		t.Fatal(err)
	}
	totals, err := parseH2load(output)
	if err != nil {
		t.Fatal(err)
	}
	if want := (h2loadTotals{Took: time.Second, Done: 70503, Bytes: 72195072}); totals != want {
		t.Errorf("totals %+v, want %+v", totals, want)
	}
	if rate := totals.requestRate(); rate != 70503 {
		t.Errorf("%f requests/s, h2load says 70503", rate)
	}
	if rate := totals.megabytes(); math.Abs(rate-72.195) > 0.001 {
		t.Errorf("%f MB/s of bodies, want 72.195", rate)
	}
	replaced := func(old, with string) []byte {
		if !bytes.Contains(output, []byte(old)) {
			t.Fatalf("no %q in the sample", old)
		}
		return bytes.ReplaceAll(output, []byte(old), []byte(with))
	}
	totals, err = parseH2load(replaced("70503 succeeded, 0 failed, 0 errored, 0 timeout", "70498 succeeded, 5 failed, 3 errored, 2 timeout"))
	if err != nil || totals.Broken != 5 {
		t.Errorf("%d broken requests (%v), want 5", totals.Broken, err)
	}
	for name, output := range map[string][]byte{
		"nothing":      nil,
		"cut off":      output[:bytes.Index(output, []byte("traffic:"))],
		"no answer":    replaced("codes: 70503 2xx", "codes: 0 2xx"),
		"wrong answer": replaced("2xx, 0 3xx, 0 4xx", "2xx, 0 3xx, 1 4xx"),
		"no time":      replaced("in 1.00s", "in 0.00s"),
	} {
		if totals, err := parseH2load(output); err == nil {
			t.Errorf("%s: %+v, want an error", name, totals)
		}
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
