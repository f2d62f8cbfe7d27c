package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// describe writes docs/evidence/mutations.md.
func describe(page *contract.Page, results []result, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Tests that bite

For developers who want to know whether the tests of the [contract](../conformance.md) would find a defect.
Each row of the contract names tests, and this page shows what they found.

%s makes a defect in the code behind a row, one at a time, in a copy of the tree, and runs tests of that row, of which one must fail.
It rewrites this page.
%s tries single rows.
The defects are in [cmd/mutate](../../cmd/mutate); a test of %s holds them to the code, and checks that each row has some.

The last run tried %d defects in %.0f minutes; **%d survived**.
Defects in %s and %s files are in the kernel data path's programs.
The others are in Go, and most of these run on the userspace data path, whose code also carries the uncommon packets of the kernel data path.

| row | defect | in | found by |
|---|---|---|---|
`, "`make mutate`", "`go run ./cmd/mutate -row F4`", "`make test`", len(results), took.Minutes(), survivors(results), "`.c`", "`.h`")
	for _, row := range page.Rows {
		for _, r := range results {
			if r.row != row.ID {
				continue
			}
			found := "**nothing: it survived**"
			if r.found != "" {
				found = "`" + r.found + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | `%s` | %s |\n", r.row, r.defect, strings.TrimPrefix(r.file, "vnicbridge/"), found)
		}
	}
	return b.String()
}
