// Package contract reads docs/conformance.md: the rules about packets, row by row,
// and the tests that hold each row.
package contract

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// groups lists the rows that the page must have. A row with a plus sharpens the row before
// it.
var groups = []string{
	"A1 A1+ A2 A2+ A2++ A3 A4 A5 A6 A6+ A7 A7+ A8 A9 A10",
	"F1 F2 F3 F4 F4+ F5 F5+ F6 F6+ F7 F7+ F8 F9 F10 F10+ F11 F12 F13 F14",
	"S1 S2 S3 S4 S4+ S5 S6 S7",
	"L1 L1+ L2 L3 L4 L5 L6 L7",
	"N1 N2 N3 N4 N5 N6 N7 N8 N9 N10 N11 N12",
	"R1 R2 R3 R4 R5 R6 R7",
	"H1 H2 H3 H4 H5 H6 H7 H8 H9 H10 H11 H12",
}

// IDs lists the ids of all rows of the contract, in order.
func IDs() []string { return strings.Fields(strings.Join(groups, " ")) }

// Page is docs/conformance.md as data.
type Page struct {
	Datapaths    []string // in force
	Rows         []Row
	Requirements []Requirement
}

// Row is one rule of the contract and what holds it.
type Row struct {
	ID     string
	Tests  []Test
	NotYet string // why the row, or a part of it, is not held yet; empty when all of it is
}

// Test names a top-level test as in vnicbridge.TestARP. Package is the last element of the
// package's import path.
type Test struct{ Package, Name string }

func (t Test) String() string { return t.Package + "." + t.Name }

// OfBoth tells whether a test is of code that both data paths use, so that it has no subtest for
// each.
func (t Test) OfBoth() bool {
	return slices.Contains(ofBoth, t.Package) || slices.Contains(ofBoth, t.String())
}

// ofBoth are the packages with such code, and tests of such code elsewhere.
var ofBoth = []string{"flow", "names", "rules", "sites", "vnicbridge.TestMACsBehindADevice"}

var (
	datapathsLine = regexp.MustCompile(`(?m)^Data paths in force: (.+)\.$`)
	codeSpan      = regexp.MustCompile("`([^`]*)`")
	rowID         = regexp.MustCompile(`^[A-Z]\d+\+*$`)
	testName      = regexp.MustCompile(`^([a-z][a-z0-9]*)\.(Test\w+)$`)
)

// Read reads a page from a file.
func Read(path string) (*Page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Parse reads the rows of the tables, `| id | rule | held by |`. The last cell has the tests
// in backticks, and "not yet: <reason>" if the row, or a part of it, is not held yet. It is
// an error if a row of the contract is missing or occurs twice, or if there is another row.
func Parse(text string) (*Page, error) {
	p := new(Page)
	line := datapathsLine.FindStringSubmatch(text)
	if line == nil {
		return nil, errors.New("no line that begins with Data paths in force: and ends with a full stop")
	}
	for _, span := range codeSpan.FindAllStringSubmatch(line[1], -1) {
		p.Datapaths = append(p.Datapaths, span[1])
	}
	if len(p.Datapaths) == 0 {
		return nil, errors.New("no data path is in force: name them in backticks")
	}
	for n, line := range strings.Split(text, "\n") {
		inner, isRow := strings.CutPrefix(line, "|")
		cells := strings.Split(strings.TrimSuffix(inner, "|"), "|")
		id := strings.TrimSpace(cells[0])
		if !isRow || !rowID.MatchString(id) && !requirementID.MatchString(id) {
			continue
		}
		if len(cells) != 3 {
			return nil, fmt.Errorf("line %d: row %s has %d cells: want id, rule and held by", n+1, id, len(cells))
		}
		if err := p.add(id, strings.TrimSpace(cells[2])); err != nil {
			return nil, fmt.Errorf("line %d: row %s: %w", n+1, id, err)
		}
	}
	return p, p.checkIDs()
}

// add adds a row of the contract, or a requirement, to the page.
func (p *Page) add(id, cell string) error {
	if requirementID.MatchString(id) {
		r, err := parseRequirement(id, cell)
		p.Requirements = append(p.Requirements, r)
		return err
	}
	r, err := parseRow(id, cell)
	p.Rows = append(p.Rows, r)
	return err
}

func parseRow(id, heldBy string) (Row, error) {
	tests, reason, partly := strings.Cut(heldBy, "not yet")
	r := Row{ID: id, NotYet: strings.TrimLeft(reason, ": ")}
	if partly && r.NotYet == "" {
		return Row{}, errors.New("not yet, without a reason: want not yet: <reason>")
	}
	var err error
	if r.Tests, err = parseTests(tests); err != nil {
		return Row{}, err
	}
	if len(r.Tests) == 0 && !partly {
		return Row{}, errors.New("no test, and no reason why not yet")
	}
	return r, nil
}

// parseTests reads the names of tests in backticks.
func parseTests(text string) (tests []Test, err error) {
	for _, span := range codeSpan.FindAllStringSubmatch(text, -1) {
		name := testName.FindStringSubmatch(span[1])
		if name == nil {
			return nil, fmt.Errorf("%q does not name a test as package.TestName", span[1])
		}
		tests = append(tests, Test{name[1], name[2]})
	}
	return tests, nil
}

// checkIDs returns an error unless the page has each row of the contract once, each
// requirement once, and no other.
func (p *Page) checkIDs() error {
	want, seen := slices.Concat(IDs(), RequirementIDs()), map[string]bool{}
	var ids []string
	for _, r := range p.Rows {
		ids = append(ids, r.ID)
	}
	for _, r := range p.Requirements {
		ids = append(ids, r.ID)
	}
	for _, id := range ids {
		if !slices.Contains(want, id) {
			return fmt.Errorf("row %s is not in the contract", id)
		}
		if seen[id] {
			return fmt.Errorf("row %s stands twice", id)
		}
		seen[id] = true
	}
	for _, id := range want {
		if !seen[id] {
			return fmt.Errorf("row %s is missing", id)
		}
	}
	return nil
}
