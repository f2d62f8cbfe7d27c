package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// TestMutationsAreCurrent checks that each row with tests has a defect, that each defect can
// be made, and that its row names the tests that must find it.
func TestMutationsAreCurrent(t *testing.T) {
	const root = "../.."
	page, err := contract.Read(filepath.Join(root, "docs/conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range mutations() {
		rows = append(rows, m.row)
		content, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := m.apply(string(content)); err != nil {
			t.Error(err)
		}
		if _, err := m.testsOn(page); err != nil {
			t.Error(err)
		}
	}
	for _, row := range page.Rows {
		if len(row.Tests) > 0 && !slices.Contains(rows, row.ID) {
			t.Errorf("row %s has no defect to try", row.ID)
		}
	}
}

// TestVerdict checks how the output of a failed run is judged.
func TestVerdict(t *testing.T) {
	for _, tt := range []struct{ name, output, found, err string }{
		{
			name:   "a subtest",
			output: "--- FAIL: TestA (0.10s)\n    --- FAIL: TestA/case (0.10s)\n        --- FAIL: TestA/case/kernel (0.10s)\n            a_test.go:1: no\n--- FAIL: TestB (0.1s)\nFAIL\n",
			found:  "vnicbridge.TestA/case/kernel",
		},
		{name: "a panic", output: "panic: runtime error: index out of range\n\ngoroutine 1 [running]:\nFAIL\tm\t0.1s\n", found: "vnicbridge: a panic"},
		{name: "a run that hangs", output: "panic: test timed out after 3m0s\nFAIL\tm\t180s\n", found: "vnicbridge: the tests hang"},
		{name: "code that does not compile", output: "a.go:1: undefined: x\nFAIL\tm [build failed]\n", err: "does not compile"},
		{name: "programs that do not load", output: "--- FAIL: TestA (0.1s)\n    rig_test.go:1: the kernel data path is in use: false, want true (x)\n", err: "refuses the programs"},
		{name: "something else", output: "signal: killed\nFAIL\tm\t1s\n", err: "no test did"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := verdict("vnicbridge", []byte(tt.output))
			if found != tt.found || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("found %q, error %v", found, err)
			}
		})
	}
}
