package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// TestReport writes a result to its file, reads it, and checks the report.
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
		"Rounds: 2, on 2 cores (Test CPU)",
		"direct           10,000\n",
		"kernel            4,000   0.40 (0.30–0.50)\n",
		"kernel lost 3 of 10,000 datagrams of one flow, sent at 10,000 a second over 100 reloads.",
		"kernel: in all rounds together, 7 requests",
		"kernel delivers 1.00 (0.95–1.05) times as many datagrams a second over 1,000 of 1,000,000 flows as over one alone.",
		"kernel delivers 0.95 (0.90–1.00) times as many datagrams a second over 1,000,000 flows in turn as over one.",
		"not reached         1 MiB files, to direct ≥ 0.95: 0.40 (0.30–0.50)\n",
		"held                bytes of memory per flow, of 1,000,000 ≤ 256: 200 (190–210)\n",
		"not measured        keep-alive requests/s, to direct ≥ 0.97: –\n",
		"TLS handshakes/s\n  direct            2,000\n  kernel            1,900   0.95\n",
		"not reached         by host name: HTTPS, keep-alive, to nginx ≥ 1.50: 1.40\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "iperf3, client to server, Gbit/s") {
		t.Errorf("the report has a metric that was not measured:\n%s", out.String())
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
	if err := os.WriteFile(page, []byte("# Title\n"+pageBegin+"outdated\n"+pageEnd+"The end.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time replaces the first
		if err := writeDocs(dir, testResult()); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	if !strings.HasPrefix(text, "# Title\n"+pageBegin) || !strings.HasSuffix(text, pageEnd+"The end.\n") || strings.Contains(text, "outdated") {
		t.Errorf("the page is\n%s", text)
	}
	for _, want := range []string{
		"| 1 MiB files, MB/s | 10,000 | 4,000 | 500 |",
		"| 1 MiB files, MB/s | 1.00 | 0.40 (0.30–0.50) | 0.05 |",
		"| 1 MiB files, to direct | ≥ 0.95 | 0.40 (0.30–0.50) | ≥ 0.99 | not reached |",
		"| on every row ahead of nftables | > 1 | 1.50, the worst of 2 rows |  | held |",
		"\n## Segments by host name\n",
		"| TLS handshakes/s | 1.00 | 0.95 | – |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	for _, name := range []string{"benchmarks-throughput.svg", "benchmarks-latency.svg", "benchmarks-table.svg", "benchmarks-names.svg"} {
		if !strings.Contains(text, "("+name+")") {
			t.Errorf("the page does not show %s", name)
		}
		checkSVG(t, filepath.Join(dir, name))
	}
	if _, err := os.Stat(filepath.Join(dir, "benchmarks-groups.svg")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a chart of what was not measured: %v", err)
	}
}

// checkSVG checks that a chart is well-formed, has both colour schemes, and draws nothing
// outside its page.
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
	if bars < 3 { // the background, and two variants
		t.Errorf("%s has %d rectangles", path, bars)
	}
}

// TestFloors checks that each floor is judged by the median, and says if nothing was measured.
func TestFloors(t *testing.T) {
	got := make(map[string]string)
	for _, v := range verdicts(testResult()) {
		got[v.floor] = v.got + ": " + v.String()
	}
	for what, want := range map[string]string{
		"keep-alive requests/s, to direct":                                          "–: not measured",
		"1 MiB files, to direct":                                                    "0.40 (0.30–0.50): not reached",
		"TCP round trip p50, to direct":                                             "2.50 (2.00–3.00): not reached",
		"on every row ahead of nftables":                                            "1.50, the worst of 2 rows: held",
		"on every row ahead of haproxy":                                             "–: not measured",
		"datagrams/s over 1,000 flows of 1,000,000 in the table, to one flow alone": "1.00 (0.95–1.05): held",
		"datagrams/s over 1,000,000 flows in turn, to one flow alone":               "0.95 (0.90–1.00): held",
		"bytes of memory per flow, of 1,000,000":                                    "200 (190–210): held",
		"datagrams of an established flow lost in 100 reloads under load":           "3, of 10,000: not reached",
		"stock reverse_proxy through the VNICs, keep-alive, to stock Caddy":         "–: not measured",
		"by host name: TLS handshakes/s, to direct":                                 "0.95: held",
		"by host name: HTTPS, keep-alive, to haproxy":                               "–: not measured",
	} {
		if got[what] != want {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
}

func TestGoal(t *testing.T) {
	f := ratioFloor("", bridgeSuite, "bulk", baseline, 0.95, 0.99)
	for figure, want := range map[float64]string{0.94: "not reached", 0.95: "held", 0.99: "held, goal reached"} {
		r := &Result{Suites: []*Suite{{Name: bridgeSuite, Rounds: []map[string]Figures{{baseline: {"bulk": 1}, ours: {"bulk": figure}}}}}}
		if got := f.judge(r).String(); got != want {
			t.Errorf("%.2f: %s, want %s", figure, got, want)
		}
	}
	behind := &Result{Suites: []*Suite{{Name: bridgeSuite, Rounds: []map[string]Figures{{
		"nginx": {"bulk": 2, "flows": 1, "tcp_p50": 10}, ours: {"bulk": 1, "flows": 2, "tcp_p50": 20},
	}}}}}
	if got, want := aheadFloor(bridgeSuite, "nginx").judge(behind), "0.50, the worst of 3 rows; not so: 1 MiB files; TCP round trip, p50"; got.got != want || got.held {
		t.Errorf("%q, held: %v, want %q, not held", got.got, got.held, want)
	}
	slower := &Result{Suites: []*Suite{
		{Name: bridgeSuite, Rounds: []map[string]Figures{{baseline: {"bulk": 10, "tcp_p50": 10}, ours: {"bulk": 8, "tcp_p50": 12}}}},
		{Name: bridgeSuite6, Rounds: []map[string]Figures{{baseline: {"bulk": 5, "tcp_p50": 10}, ours: {"bulk": 4, "tcp_p50": 15}}}},
	}}
	if got, want := familyFloor("", bridgeSuite6, bridgeSuite).judge(slower), "0.80, the worst of 2 rows; not so: TCP round trip, p50"; got.got != want || got.held {
		t.Errorf("%q, held: %v, want %q, not held", got.got, got.held, want)
	}
	if ahead := aheadOfCaddy("", "h2_bulk"); ahead.holds(1, ahead.bound) {
		t.Error("as fast is not ahead")
	}
	if few := (&Result{Suites: []*Suite{{Name: bridgeSuite, Rounds: []map[string]Figures{{ours: {reloadsDone: 3, reloadMissing: 0}}}}}}); lostValues(few) != 0 {
		t.Error("3 reloads are taken for 100")
	}
}

func lostValues(r *Result) int {
	values, _ := lost(r)
	return len(values)
}

// TestFloorsMeasureMetrics checks that each floor uses metrics that exist.
func TestFloorsMeasureMetrics(t *testing.T) {
	whole := new(Result)
	for _, info := range suiteInfos {
		figures := Figures{reloadsDone: 100, reloadSent: 1, reloadMissing: 0}
		for _, m := range info.metrics {
			figures[m.Name] = 1
		}
		s := &Suite{Name: info.name, Rounds: []map[string]Figures{{}}}
		for _, name := range []string{baseline, ours, oursInNetns, oursWithBans, oursWithLimits, "userspace", "stock-vnic", "nftables", "haproxy", "nginx", "caddy"} {
			s.Variants = append(s.Variants, VariantInfo{Name: name})
			s.Rounds[0][name] = figures
		}
		whole.Suites = append(whole.Suites, s)
	}
	for _, v := range verdicts(whole) {
		if !v.measured {
			t.Errorf("%s is not measured by a whole run", v.floor)
		}
	}
}

func testResult() *Result {
	return &Result{
		Machine:  gauge.Machine{CPU: "Test CPU", Cores: 2, MemoryMiB: 1024, Kernel: "6.1"},
		Versions: []Version{{"Go", "go1.26"}},
		Suites: []*Suite{{
			Name:     bridgeSuite,
			Variants: []VariantInfo{{Name: baseline}, {Name: ours, Ours: true}, {Name: "nftables"}},
			Rounds: []map[string]Figures{
				{
					baseline: {"bulk": 10000, "tcp_p50": 10}, "nftables": {"bulk": 500, "tcp_p50": 30},
					ours: {"bulk": 3000, "tcp_p50": 20, brokenRequests: 7},
				},
				{
					baseline: {"bulk": 10000, "tcp_p50": 10}, "nftables": {"bulk": 500, "tcp_p50": 45},
					ours: {"bulk": 5000, "tcp_p50": 30, reloadsDone: 100, reloadSent: 10000, reloadMissing: 3},
				},
			},
		}, {
			Name:     tableSuite,
			Variants: []VariantInfo{{Name: baseline}, {Name: ours, Ours: true}},
			Rounds: []map[string]Figures{
				{baseline: {packetsMetric(1): 300}, ours: {packetsMetric(1): 200, packetsMetric(1e6): 180, busyMetric(1e6): 190, memoryMetric(1e6): 190}},
				{baseline: {packetsMetric(1): 300}, ours: {packetsMetric(1): 200, packetsMetric(1e6): 200, busyMetric(1e6): 210, memoryMetric(1e6): 210}},
			},
		}, {
			Name:     namesSuite,
			Variants: []VariantInfo{{Name: baseline}, {Name: ours, Ours: true}, {Name: "nginx"}},
			Rounds: []map[string]Figures{{
				baseline: {"https_keepalive": 8000, "https_perrequest": 2000},
				ours:     {"https_keepalive": 7000, "https_perrequest": 1900}, "nginx": {"https_keepalive": 5000},
			}},
		}},
	}
}
