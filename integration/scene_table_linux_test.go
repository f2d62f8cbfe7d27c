package integration_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

const separationPage = "../docs/evidence/separation.md"

// write has the tables that a test makes put into the page, instead of compared.
var write = flag.Bool("write", false, "write what comes of each attempt to docs/evidence/separation.md")

// page is held while docs/evidence/separation.md is read and written.
var page sync.Mutex

// wantTable holds what was tried, and what came of it, against the table under a
// heading of docs/evidence/separation.md, whose rows may be in any order.
func wantTable(t *testing.T, heading string, rows [][]string) {
	t.Helper()
	page.Lock() // the data paths' tests run side by side
	defer page.Unlock()
	text, err := os.ReadFile(separationPage)
	if err != nil {
		t.Fatal(err)
	}
	before, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", separationPage, heading)
	}
	intro, table, _ := strings.Cut(section, "|---")
	rule, table, _ := strings.Cut(table, "\n")
	table, after, _ := strings.Cut(table, "\n\n")
	var want strings.Builder
	for _, row := range rows {
		want.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	if *write {
		text := before + "\n## " + heading + "\n" + intro + "|---" + rule + "\n" + want.String() + "\n" + after
		if err := os.WriteFile(separationPage, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	wantLines(t, heading, strings.Split(table, "\n"), strings.Split(strings.TrimSpace(want.String()), "\n"))
}

// wantLines compares the lines of a table with those that came about.
func wantLines(t *testing.T, heading string, written, cameAbout []string) {
	t.Helper()
	for _, line := range cameAbout {
		i := slices.Index(written, line)
		if i < 0 {
			t.Errorf("docs/evidence/separation.md, %s, does not say:\n%s", heading, line)
			continue
		}
		written = slices.Delete(written, i, i+1)
	}
	for _, line := range written {
		t.Errorf("docs/evidence/separation.md, %s, says what did not come about:\n%s", heading, line)
	}
}
