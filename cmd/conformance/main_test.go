package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// pageText returns a page with all rows of the contract. heldBy has the last cells of some
// rows.
func pageText(datapaths string, heldBy map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Data paths in force: %s.\n\n| # | rule | held by |\n|---|---|---|\n", datapaths)
	for _, id := range contract.IDs() {
		cell := heldBy[id]
		if cell == "" {
			cell = "not yet: later."
		}
		fmt.Fprintf(&b, "| %s | a rule | %s |\n", id, cell)
	}
	for _, id := range contract.RequirementIDs() {
		cell := heldBy[id]
		if cell == "" {
			cell = "does not apply: nothing does."
		}
		fmt.Fprintf(&b, "| %s | a rule | %s |\n", id, cell)
	}
	return b.String()
}

// TestVerdict judges recorded runs (go test -json of small packages) by pages.
func TestVerdict(t *testing.T) {
	held := fmt.Sprintf("1 rows held on userspace, %d to come", len(contract.IDs())-1)
	tests := []struct {
		name      string
		recording string
		datapaths string
		rows      map[string]string
		example   string // in the documentation, next to docs/page.md
		fails     bool
		prints    []string
		hides     []string
	}{
		{
			name: "held", recording: "pass", rows: map[string]string{"A1": "`vnicbridge.TestARP`, `vnicbridge.TestSlow`"},
			prints: []string{
				"\nok  \texample.com/m/vnicbridge\t1.103s\n",
				"?   \texample.com/m/empty\t[no test files]\n",
				"--- PASS: vnicbridge.TestSlow (1.10s)\n",
				held,
			},
			hides: []string{"quiet", "=== RUN", "PASS: TestARP", "\nPASS\n"},
		},
		{
			name: "held in part counts as to come", recording: "pass",
			rows:   map[string]string{"A1": "`vnicbridge.TestARP`", "A5": "`vnicbridge.TestSlow`, not yet: the whole pool"},
			prints: []string{held},
		},
		{
			name: "a part that is claimed must pass too", recording: "pass", fails: true,
			rows:   map[string]string{"A5": "`vnicbridge.TestGone`; not yet: the whole pool"},
			prints: []string{"row A5: vnicbridge.TestGone/userspace did not run"},
			hides:  []string{"rows held"},
		},
		{
			name: "requirements", recording: "pass",
			rows: map[string]string{
				"RFC 4787 REQ-1": "holds: `vnicbridge.TestARP`", "RFC 7857 §2.1": "holds in part: `vnicbridge.TestSlow`; the rest does not.",
				"RFC 5508 REQ-3": "not met: it is not.",
			},
			prints: []string{fmt.Sprintf(", holds in part: 1, holds: 1, does not apply: %d, not met: 1\n", len(contract.RequirementIDs())-3)},
		},
		{
			name: "a requirement whose test is not there", recording: "pass", fails: true,
			rows:   map[string]string{"RFC 4787 REQ-1": "holds: `vnicbridge.TestGone`"},
			prints: []string{"row RFC 4787 REQ-1: vnicbridge.TestGone/userspace did not run"},
		},
		{
			name: "a requirement whose test fails", recording: "fail", fails: true,
			rows:   map[string]string{"RFC 5227 §2.4": "holds in part: `integration.TestPing`; not all of it."},
			prints: []string{"row RFC 5227 §2.4: integration.TestPing/userspace failed"},
		},
		{
			name: "the test of another package", recording: "pass", fails: true,
			rows:   map[string]string{"A1": "`integration.TestARP`"},
			prints: []string{"row A1: integration.TestARP/userspace did not run"},
		},
		{
			name: "a data path on which the test did not run", recording: "pass", datapaths: "`kernel` and `userspace`", fails: true,
			rows:   map[string]string{"A1": "`vnicbridge.TestARP`"},
			prints: []string{"row A1: vnicbridge.TestARP/kernel did not run"},
			hides:  []string{"TestARP/userspace did not run"},
		},
		{
			name: "a failing test", recording: "fail", fails: true,
			rows: map[string]string{"A1": "`integration.TestPing`", "A2": "`integration.TestFine`"},
			prints: []string{
				"no reply from 192.168.1.2\n",
				"--- FAIL: TestPing",
				"FAIL\texample.com/m/integration\t0.002s\n",
				"conformance: integration.TestPing failed\n",
				"conformance: integration.TestPing/userspace failed: a_test.go:4: no reply from 192.168.1.2\n",
				"row A1: integration.TestPing/userspace failed\n",
			},
			hides: []string{"quiet", "TestFine"},
		},
		{
			name: "tables, with a subtest for each data path in each case", recording: "cases", fails: true,
			rows:   map[string]string{"A1": "`cases.TestTable`", "A2": "`cases.TestHalf`"},
			prints: []string{"row A2: cases.TestHalf/userspace failed\n"},
			hides:  []string{"row A1"},
		},
		{
			name: "tests of code that both data paths use", recording: "both", fails: true,
			rows:   map[string]string{"A1": "`flow.TestTable`", "A2": "`flow.TestGone`"},
			prints: []string{"row A2: flow.TestGone did not run"},
			hides:  []string{"row A1"},
		},
		{
			name: "a skipped test, of no row", recording: "skip", fails: true,
			prints: []string{"no tcpdump\n", "conformance: skips.TestCapture/userspace was skipped: a_test.go:3: no tcpdump\n"},
		},
		{
			name: "a panic", recording: "panic", fails: true,
			prints: []string{"panic: boom", "panics/a_test.go:3", "conformance: panics.TestBoom failed\n"},
		},
		{
			name: "a package that does not build", recording: "build", fails: true,
			prints: []string{"broken/a_test.go:3:28: undefined: undefined\n", "[build failed]", "conformance: package example.com/m/broken failed\n"},
		},
		{
			name: "a run cut short", recording: "killed", fails: true,
			rows:   map[string]string{"A1": "`vnicbridge.TestSlow`"},
			prints: []string{"row A1: vnicbridge.TestSlow/userspace did not finish\n"},
		},
		{
			name: "an example that a test runs", recording: "example", example: "See:\n\n    caddy version\n",
			prints: []string{"0 rows held"},
		},
		{
			name: "an example that no test runs", recording: "example", example: "Now see:\n\nThis.\n\n    caddy version\n", fails: true,
			prints: []string{"conformance: docs/page.md:5: no test runs this example\n"},
		},
		{
			name: "a test runs an example of cannotRun", recording: "example", example: "See:\n\n    caddy_vnic_segment_healthy == 0\n", fails: true,
			prints: []string{"conformance: docs/page.md:3: a test runs this example, so cannotRun"},
		},
		{
			name: "no run at all", recording: "empty", fails: true,
			prints: []string{"conformance: no test ran\n"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.datapaths == "" {
				tt.datapaths = "`userspace`"
			}
			pagePath := filepath.Join(t.TempDir(), "docs", "conformance.md")
			if err := os.Mkdir(filepath.Dir(pagePath), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(pagePath, []byte(pageText(tt.datapaths, tt.rows)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(pagePath), "page.md"), []byte(tt.example), 0o600); err != nil {
				t.Fatal(err)
			}
			recording, err := os.Open(filepath.Join("testdata", tt.recording+".json"))
			if err != nil {
				t.Fatal(err)
			}
			defer recording.Close()

			var out strings.Builder
			if err := run(pagePath, recording, &out); (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %v", err, tt.fails)
			}
			for _, want := range tt.prints {
				if !strings.Contains(out.String(), want) {
					t.Errorf("did not print %q", want)
				}
			}
			for _, unwanted := range tt.hides {
				if strings.Contains(out.String(), unwanted) {
					t.Errorf("printed %q", unwanted)
				}
			}
			if t.Failed() {
				t.Log("printed:\n" + out.String())
			}
		})
	}
}
