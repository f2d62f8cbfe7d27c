package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// describe writes docs/mutations.md.
func describe(page *contract.Page, results []result, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Tests that bite

Each row of the [contract](conformance.md) names the tests that would fail without it. Here that is tried: defects are made in the code behind each row, one at a
time, in a copy of the tree, and tests of that row are run. %s makes this page; %s tries single rows. The defects are in [cmd/mutate](../cmd/mutate); a test of
%s holds them to the code, and sees that each row has some.

The last run tried %d defects in %.0f minutes; **%d survived**. Those whose file is in %s are in the kernel data path's programs, the others in Go, where code
of the userspace data path carries the uncommon packets of the kernel's, too.

| row | defect | in | found by |
|---|---|---|---|
`, "`make mutate`", "`go run ./cmd/mutate -row F4`", "`make test`", len(results), took.Minutes(), survivors(results), "`bpf/`")
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
