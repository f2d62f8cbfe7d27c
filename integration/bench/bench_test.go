package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
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

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 5}, Spread{5, 1, 9}},
		{[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4}},
	} {
		before := slices.Clone(c.values)
		if got, ok := spreadOf(c.values); !ok || got != c.want {
			t.Errorf("spread of %v: %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(c.values, before) {
			t.Errorf("%v became %v", before, c.values)
		}
	}
	if _, ok := spreadOf(nil); ok {
		t.Error("nothing has a spread")
	}
}

func TestPercentile(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(200-i))
	}
	for p, want := range map[int]time.Duration{50: 100, 99: 198, 100: 200} {
		if got := percentile(times, p); got != want {
			t.Errorf("p%d of 1 to 200: %d, want %d", p, got, want)
		}
	}
	if got := percentile([]time.Duration{7}, 99); got != 7 {
		t.Errorf("p99 of one: %d, want 7", got)
	}
}

// Ratios are those of the same round, and only of rounds that have both.
func TestRatios(t *testing.T) {
	r := &Result{Rounds: []map[string]Figures{
		{baseline: {"bulk": 100}, "a": {"bulk": 50}},
		{baseline: {"bulk": 10}, "a": {"bulk": 9}},
		{baseline: {}, "a": {"bulk": 1}},
		{baseline: {"bulk": 10}, "a": {}},
	}}
	if got, want := r.ratios("a", baseline, "bulk"), []float64{0.5, 0.9}; !slices.Equal(got, want) {
		t.Errorf("ratios %v, want %v", got, want)
	}
	if got, want := r.figures("a", "bulk"), []float64{50, 9, 1}; !slices.Equal(got, want) {
		t.Errorf("figures %v, want %v", got, want)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0.456: "0.46", 9.999: "10.00", 12.34: "12.3", 123.4: "123", 1234.5: "1,235", 123456: "123,456", 1234567: "1,234,567",
	} {
		if got := number(value); got != want {
			t.Errorf("%v: %s, want %s", value, got, want)
		}
	}
}

// A result survives its file, and the report made of it says what was measured.
func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build", "bench.json")
	if err := testResult().write(path); err != nil {
		t.Fatal(err)
	}
	r, err := readResult(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printResult(&out, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 cores (Test CPU)",
		"direct         10,000\n",
		"userspace       4,000   0.40 (0.30–0.50)\n",
		"userspace carries 1 MiB files 8.00 (6.00–10.00) times as fast as the plain bridge.",
		"userspace lost 3 of 10,000 datagrams of one flow, sent at 10,000 a second over 20 reloads.",
		"memory 100 MiB, 419 bytes more for each flow than with none (400 are stated).",
		"userspace: 7.00 requests of all rounds",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestWriteDocs(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, pageName)
	if err := os.WriteFile(page, []byte("# Title\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeDocs(dir, testResult()); err == nil || !strings.Contains(err.Error(), pageName) {
		t.Errorf("a page without the lines: %v, want an error that names it", err)
	}
	if err := os.WriteFile(page, []byte("# Title\n"+pageBegin+"old\n"+pageEnd+"The end.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what was written can be replaced
		if err := writeDocs(dir, testResult()); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	if !strings.HasPrefix(text, "# Title\n"+pageBegin) || !strings.HasSuffix(text, pageEnd+"The end.\n") || strings.Contains(text, "old") {
		t.Errorf("the page is\n%s", text)
	}
	for _, want := range []string{"| 1 MiB files, MB/s | 10,000 | 4,000 | 500 |", "| 1 MiB files, MB/s | 1.00 | 0.40 (0.30–0.50) | 0.05 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	for _, name := range []string{throughputChart, latencyChart} {
		if !strings.Contains(text, "("+name+")") {
			t.Errorf("the page does not show %s", name)
		}
		checkSVG(t, filepath.Join(dir, name))
	}
}

// checkSVG checks that a chart is well-formed, has both colour schemes, and
// draws nothing outside its page.
func checkSVG(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "prefers-color-scheme: dark") {
		t.Errorf("%s has no dark colours", path)
	}
	bars := 0
	for decoder := xml.NewDecoder(strings.NewReader(string(content))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "rect" {
			bars++
		}
	}
	if bars < 3 { // the page, and two variants
		t.Errorf("%s has %d rectangles", path, bars)
	}
}

func testResult() *Result {
	return &Result{
		Machine:  Machine{CPU: "Test CPU", Cores: 2, MemoryMiB: 1024, Kernel: "6.1"},
		Versions: []Version{{"Go", "go1.26"}},
		Variants: []VariantInfo{{Name: baseline}, {Name: "userspace", Ours: true}, {Name: "plain"}},
		Rounds: []map[string]Figures{
			{baseline: {"bulk": 10000, "tcp_p50": 10}, "userspace": {"bulk": 3000, "tcp_p50": 20, brokenRequests: 7}, "plain": {"bulk": 500}},
			{baseline: {"bulk": 10000, "tcp_p50": 10}, "userspace": {"bulk": 5000, "tcp_p50": 30}, "plain": {"bulk": 500}},
		},
		Reloads: map[string]Loss{"userspace": {Reloads: 20, Sent: 10000, Lost: 3}},
		Loads:   map[string][]Load{"userspace": {{Flows: 1e5, PacketRate: 2e5, RSS: 100 << 20, RSSBefore: 60 << 20, Stated: 400}}},
	}
}
