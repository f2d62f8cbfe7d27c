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

func TestParseH2load(t *testing.T) {
	output, err := os.ReadFile("testdata/h2load.txt")
	if err != nil {
		t.Fatal(err)
	}
	totals, err := parseH2load(output)
	if err != nil {
		t.Fatal(err)
	}
	if want := (loadTotals{Took: time.Second, Done: 70503, Bytes: 72195072}); totals != want {
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
