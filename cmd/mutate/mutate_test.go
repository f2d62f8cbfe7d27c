package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestPageKeepsOtherRows checks that a run of some rows rewrites these on the page, and no others.
func TestPageKeepsOtherRows(t *testing.T) {
	tests := []contract.Test{{Package: "vnicbridge", Name: "TestA"}}
	page := &contract.Page{Rows: []contract.Row{{ID: "A1", Tests: tests}, {ID: "A1+", Tests: tests}, {ID: "B1", Tests: tests}, {ID: "B2"}}}
	file := filepath.Join(t.TempDir(), "mutations.md")
	for i, tt := range []struct {
		results []result
		want    []string
	}{
		{
			[]result{{mutation: mutation{row: "A1+", defect: "x", file: "vnicbridge/x.go"}}},
			[]string{"Of 1 defects **1 survived**", "tried yet: A1, B1.\n", "| A1+ | 2026-01-01 | x | `x.go` | **nothing: it survived** |\n"},
		},
		{
			[]result{{mutation: mutation{row: "A1", defect: "y", file: "y.go"}, found: "vnicbridge.TestA"}, {mutation: mutation{row: "B1", defect: "z", file: "z.go"}, found: "vnicbridge.TestA"}},
			[]string{"Of 3 defects **1 survived**, each when it was last tried.\n", "| A1 | 2026-01-02 | y | `y.go` | `vnicbridge.TestA` |\n| A1+ | 2026-01-01 | x ", "|\n| B1 | 2026-01-02 | z "},
		},
		{
			[]result{
				{mutation: mutation{row: "A1+", defect: "x", file: "x.go"}, found: "vnicbridge.TestA"},
				{mutation: mutation{row: "B1", defect: "v", file: "z.go"}, found: "vnicbridge.TestA"},
				{mutation: mutation{row: "B1", defect: "w", file: "z.go"}, err: errNotTried},
			},
			[]string{"Of 3 defects **0 survived**", "| A1 | 2026-01-02 | y ", "| A1+ | 2026-01-03 | x ", "| B1 | 2026-01-02 | z "},
		},
	} {
		if err := updatePage(file, page, ofWholeRows(tt.results), time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(content), want) {
				t.Errorf("after run %d the page lacks %q:\n%s", i, want, content)
			}
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
