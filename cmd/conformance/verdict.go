package main

import (
	"fmt"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// unheld lists the tests that a page's rows and requirements name, and that did not pass on
// a data path in force.
func unheld(p *contract.Page, r *testRun) []string {
	var problems []string
	check := func(id string, tests []contract.Test) {
		for _, test := range tests {
			if test.OfBoth() {
				if outcome := r.outcome(test, test.Name); outcome != "pass" {
					problems = append(problems, fmt.Sprintf("row %s: %s %s", id, test, verdict[outcome]))
				}
				continue
			}
			for _, datapath := range p.Datapaths {
				if outcome := r.outcome(test, datapath); outcome != "pass" {
					problems = append(problems, fmt.Sprintf("row %s: %s/%s %s", id, test, datapath, verdict[outcome]))
				}
			}
		}
	}
	for _, row := range p.Rows {
		check(row.ID, row.Tests)
	}
	for _, r := range p.Requirements {
		check(r.ID, r.Tests)
	}
	return problems
}

// verdict has the words for each outcome other than "pass".
var verdict = map[string]string{
	"":     "did not run: does it exist, and does it have a subtest for each data path?",
	"fail": "failed",
	"skip": "was skipped",
	"run":  "did not finish",
}

// summary counts the rows that are held and the answers to requirements.
func summary(p *contract.Page) string {
	held := 0
	for _, r := range p.Rows {
		if r.NotYet == "" {
			held++
		}
	}
	text := fmt.Sprintf("%d rows held on %s, %d to come; of the RFCs' requirements", held, strings.Join(p.Datapaths, " and "), len(p.Rows)-held)
	answers := make(map[string]int)
	for _, r := range p.Requirements {
		answers[r.Answer]++
	}
	for _, answer := range contract.Answers {
		text += fmt.Sprintf(", %s: %d", answer, answers[answer])
	}
	return text
}
