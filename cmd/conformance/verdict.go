package main

import (
	"fmt"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// unheld lists the tests of a page's rows that did not pass on a data path in force.
func unheld(p *contract.Page, r *testRun) []string {
	var problems []string
	for _, row := range p.Rows {
		for _, test := range row.Tests {
			for _, datapath := range p.Datapaths {
				if outcome := r.outcome(test, datapath); outcome != "pass" {
					problems = append(problems, fmt.Sprintf("row %s: %s/%s %s", row.ID, test, datapath, verdict[outcome]))
				}
			}
		}
	}
	return problems
}

// verdict words the outcomes of a test that are not a pass.
var verdict = map[string]string{
	"":     "did not run: is it there, and has it a subtest for each data path?",
	"fail": "failed",
	"skip": "was skipped",
	"run":  "did not finish",
}

// summary counts the rows by what the page says of them.
func summary(p *contract.Page) string {
	held := 0
	for _, r := range p.Rows {
		if r.NotYet == "" {
			held++
		}
	}
	return fmt.Sprintf("%d rows held on %s, %d to come", held, strings.Join(p.Datapaths, " and "), len(p.Rows)-held)
}
