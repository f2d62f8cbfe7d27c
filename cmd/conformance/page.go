package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// contract lists the groups of rows that the page must carry: the letter, and
// the number of the last row.
var contract = []struct {
	letter string
	last   int
}{{"A", 7}, {"F", 12}, {"S", 5}, {"L", 6}}

// contractIDs lists the ids of all rows of the contract, in order.
func contractIDs() []string {
	var ids []string
	for _, group := range contract {
		for n := 1; n <= group.last; n++ {
			ids = append(ids, fmt.Sprint(group.letter, n))
		}
	}
	return ids
}

// page is docs/conformance.md as data.
type page struct {
	datapaths []string // in force
	rows      []row
}

// row is one rule of the contract and what holds it.
type row struct {
	id     string
	tests  []testRef
	notYet string // why the row, or a part of it, is not held yet; empty when all of it is
}

// testRef names a top-level test as package.Test, as in vnicbridge.TestARP. The
// package is the last element of its import path.
type testRef struct{ pkg, test string }

func (t testRef) String() string { return t.pkg + "." + t.test }

var (
	datapathsLine = regexp.MustCompile(`(?m)^Data paths in force: (.+)\.$`)
	codeSpan      = regexp.MustCompile("`([^`]*)`")
	rowID         = regexp.MustCompile(`^[A-Z]\d+$`)
	testName      = regexp.MustCompile(`^([a-z][a-z0-9]*)\.(Test\w+)$`)
)

// parsePage reads the rows of the tables, `| id | rule | held by |`. The last
// cell holds the tests in backticks, and "not yet: <reason>" when the row is yet
// to come or is held in part.
func parsePage(text string) (*page, error) {
	p := new(page)
	line := datapathsLine.FindStringSubmatch(text)
	if line == nil {
		return nil, errors.New("no line that begins with Data paths in force: and ends with a full stop")
	}
	for _, span := range codeSpan.FindAllStringSubmatch(line[1], -1) {
		p.datapaths = append(p.datapaths, span[1])
	}
	if len(p.datapaths) == 0 {
		return nil, errors.New("no data path is in force: name them in backticks")
	}
	for n, line := range strings.Split(text, "\n") {
		inner, isRow := strings.CutPrefix(line, "|")
		cells := strings.Split(strings.TrimSuffix(inner, "|"), "|")
		id := strings.TrimSpace(cells[0])
		if !isRow || !rowID.MatchString(id) {
			continue
		}
		if len(cells) != 3 {
			return nil, fmt.Errorf("line %d: row %s has %d cells: want id, rule and held by", n+1, id, len(cells))
		}
		r, err := parseRow(id, strings.TrimSpace(cells[2]))
		if err != nil {
			return nil, fmt.Errorf("line %d: row %s: %w", n+1, id, err)
		}
		p.rows = append(p.rows, r)
	}
	return p, p.checkIDs()
}

func parseRow(id, heldBy string) (row, error) {
	tests, reason, partly := strings.Cut(heldBy, "not yet")
	r := row{id: id, notYet: strings.TrimLeft(reason, ": ")}
	if partly && r.notYet == "" {
		return row{}, errors.New("not yet, without a reason: want not yet: <reason>")
	}
	for _, span := range codeSpan.FindAllStringSubmatch(tests, -1) {
		name := testName.FindStringSubmatch(span[1])
		if name == nil {
			return row{}, fmt.Errorf("%q does not name a test as package.TestName", span[1])
		}
		r.tests = append(r.tests, testRef{name[1], name[2]})
	}
	if len(r.tests) == 0 && !partly {
		return row{}, errors.New("no test, and no reason why not yet")
	}
	return r, nil
}

// checkIDs makes sure that each row of the contract is there once, and no other.
func (p *page) checkIDs() error {
	want := contractIDs()
	seen := map[string]bool{}
	for _, r := range p.rows {
		if !slices.Contains(want, r.id) {
			return fmt.Errorf("row %s is not in the contract", r.id)
		}
		if seen[r.id] {
			return fmt.Errorf("row %s stands twice", r.id)
		}
		seen[r.id] = true
	}
	for _, id := range want {
		if !seen[id] {
			return fmt.Errorf("row %s is missing", id)
		}
	}
	return nil
}

// problems lists the tests of the rows that did not pass on a data path in force.
func (p *page) problems(r *testRun) []string {
	var problems []string
	for _, row := range p.rows {
		for _, ref := range row.tests {
			for _, datapath := range p.datapaths {
				if outcome := r.outcome(ref, datapath); outcome != "pass" {
					problems = append(problems, fmt.Sprintf("row %s: %s/%s %s", row.id, ref, datapath, verdict[outcome]))
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
func (p *page) summary() string {
	held := 0
	for _, r := range p.rows {
		if r.notYet == "" {
			held++
		}
	}
	return fmt.Sprintf("%d rows held on %s, %d to come", held, strings.Join(p.datapaths, " and "), len(p.rows)-held)
}
