package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// mutation is one defect of the code behind a row of the contract.
type mutation struct {
	row      string
	defect   string // what goes wrong, in words
	file     string
	old, new string // text that occurs once in the file, and its replacement
	tests    string // the row's tests that must find it, separated by blanks; default: the row's tests in vnicbridge
}

// mutations returns all mutations, in the order of the rows.
func mutations() []mutation {
	return slices.Concat(addresses, flows, ipv6, separation, load, byName, restarts, machines)
}

// apply returns the file's content with the defect. It is an error unless the old text
// occurs exactly once, because then the code has changed and the mutation has not.
func (m mutation) apply(content string) (string, error) {
	if n := strings.Count(content, m.old); n != 1 {
		return "", fmt.Errorf("row %s, %s: %s has this text %d times, want once; the code has changed, so change the defect in cmd/mutate too:\n%s", m.row, m.defect, m.file, n, m.old)
	}
	return strings.Replace(content, m.old, m.new, 1), nil
}

// inKernel tells whether the defect is in the BPF programs.
func (m mutation) inKernel() bool { return strings.HasPrefix(m.file, bpfDir+"/") }

// testsOn returns the tests that must find the defect: those of its row, or a part of them.
func (m mutation) testsOn(page *contract.Page) (tests []contract.Test, err error) {
	row := page.Rows[slices.IndexFunc(page.Rows, func(r contract.Row) bool { return r.ID == m.row })]
	wanted := strings.Fields(m.tests)
	for _, test := range row.Tests {
		if len(wanted) == 0 && test.Package == "vnicbridge" || slices.Contains(wanted, test.String()) {
			tests = append(tests, test)
		}
	}
	if len(tests) == 0 || len(wanted) > len(tests) {
		return nil, fmt.Errorf("row %s, %s: docs/conformance.md does not have the tests %q in this row", m.row, m.defect, m.tests)
	}
	return tests, nil
}
