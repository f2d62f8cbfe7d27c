package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// tableLine is a line of the page's table; its group is the row's id.
var tableLine = regexp.MustCompile(`(?m)^\| ([A-Z]\S*) \| \d.*\n`)

// survived stands in the table instead of the test that found a defect.
const survived = "**nothing: it survived**"

// updatePage writes the results into a file like docs/evidence/mutations.md. Rows that were not
// tried keep what an earlier run has written.
func updatePage(file string, page *contract.Page, results []result, today time.Time) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(file, []byte(describe(page, linesOf(string(old), results, today))), 0o644)
}

// linesOf returns the table's lines by row: those of the old page, but the results instead for the
// rows of these.
func linesOf(old string, results []result, today time.Time) map[string][]string {
	byRow := make(map[string][]string)
	for _, line := range tableLine.FindAllStringSubmatch(old, -1) {
		byRow[line[1]] = append(byRow[line[1]], line[0])
	}
	for _, r := range results {
		byRow[r.row] = nil
	}
	for _, r := range results {
		found := survived
		if r.found != "" {
			found = "`" + r.found + "`"
		}
		byRow[r.row] = append(byRow[r.row], fmt.Sprintf("| %s | %s | %s | `%s` | %s |\n",
			r.row, today.Format(time.DateOnly), r.defect, strings.TrimPrefix(r.file, "vnicbridge/"), found))
	}
	return byRow
}

// describe returns the page with these lines in its table.
func describe(page *contract.Page, byRow map[string][]string) string {
	var lines, rows []string
	for _, row := range page.Rows {
		lines = append(lines, byRow[row.ID]...)
		if len(row.Tests) > 0 && byRow[row.ID] == nil {
			rows = append(rows, row.ID)
		}
	}
	table, untried := strings.Join(lines, ""), ""
	if rows != nil {
		untried = " No defect of these rows has been tried yet: " + strings.Join(rows, ", ") + "."
	}
	return fmt.Sprintf(`# Tests that bite

For developers who want to know whether the tests of the [contract](../conformance.md) would find a defect.
Each row of the contract names tests, and this page shows what they found.

%s makes a defect in the code behind a row, one at a time, in a copy of the tree, and runs tests of that row, of which one must fail.
It rewrites this page, and takes more than an hour on 2 cores.
%s tries single rows, and rewrites those.
The defects are in [cmd/mutate](../../cmd/mutate); a test of %s holds them to the code, and checks that each row has some.

Of %d defects **%d survived**, each when it was last tried.%s
Defects in %s and %s files are in the kernel data path's programs.
The others are in Go, and most of these run on the userspace data path, whose code also carries the uncommon packets of the kernel data path.

| row | tried | defect | in | found by |
|---|---|---|---|---|
%s`, "`make mutate`", "`make mutate MUTATE='-row F4,F5'`", "`make test`", len(lines), strings.Count(table, survived), untried, "`.c`", "`.h`", table)
}
