package contract

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pageText returns a page with all rows of the contract.
func pageText(datapaths string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Data paths in force: %s.\n\n| # | rule | held by |\n|---|---|---|\n", datapaths)
	for _, id := range IDs() {
		fmt.Fprintf(&b, "| %s | a rule | not yet: later. |\n", id)
	}
	for _, id := range RequirementIDs() {
		fmt.Fprintf(&b, "| %s | a rule | not met: why. |\n", id)
	}
	return b.String()
}

// TestPageErrors parses pages that must be refused, because otherwise a row would be lost
// unnoticed.
func TestPageErrors(t *testing.T) {
	good := pageText("`userspace`")
	replaceRow := func(id, with string) string {
		return strings.Replace(good, "| "+id+" | a rule | not yet: later. |\n", with, 1)
	}
	answerTo := func(id, with string) string {
		return strings.Replace(good, "| "+id+" | a rule | not met: why. |\n", with, 1)
	}
	answer := func(with string) string { return answerTo("RFC 5382 REQ-4", with) }
	tests := []struct{ name, page, want string }{
		{"no data paths", strings.Replace(good, "Data paths", "Paths", 1), "Data paths in force"},
		{"unquoted data path", pageText("userspace"), "no data path is in force"},
		{"missing row", replaceRow("F12", ""), "row F12 is missing"},
		{"row twice", replaceRow("A2", "| A1 | a rule | not yet: later. |\n"), "row A1 stands twice"},
		{"unknown row", replaceRow("A2", "| A11 | a rule | not yet: later. |\n"), "row A11 is not in the contract"},
		{"no reason", replaceRow("A2", "| A2 | a rule | not yet |\n"), "row A2: not yet, without a reason"},
		{"empty cell", replaceRow("A2", "| A2 | a rule | |\n"), "row A2: no test"},
		{"not a test", replaceRow("A2", "| A2 | a rule | `vnicbridge.ARP` |\n"), `"vnicbridge.ARP" does not name a test`},
		{"missing requirement", answer(""), "row RFC 5382 REQ-4 is missing"},
		{"unknown requirement", good + "| RFC 4787 REQ-15 | a rule | not met: why. |\n", "row RFC 4787 REQ-15 is not in the contract"},
		{"missing document", answerTo("RFC 7527", ""), "row RFC 7527 is missing"},
		{"missing rule of a section", answerTo("RFC 4443 §2.4 e", ""), "row RFC 4443 §2.4 e is missing"},
		{"unknown recommendation", good + "| RFC 6092 REC-13 | a rule | not met: why. |\n", "row RFC 6092 REC-13 is not in the contract"},
		{"unknown document", good + "| RFC 791 | a rule | not met: why. |\n", "row RFC 791 is not in the contract"},
		{"requirement twice", good + "| RFC 7527 | a rule | not met: why. |\n", "row RFC 7527 stands twice"},
		{"no answer", answer("| RFC 5382 REQ-4 | a rule | perhaps: `vnicbridge.TestARP` |\n"), "is no answer"},
		{"held by nothing", answer("| RFC 5382 REQ-4 | a rule | holds: always |\n"), "no test is named"},
		{"held by no test", answer("| RFC 5382 REQ-4 | a rule | holds: `always` |\n"), `"always" does not name a test`},
		{"with a reservation", answer("| RFC 5382 REQ-4 | a rule | holds: `vnicbridge.TestARP`; mostly |\n"), "that is holds in part"},
		{"in part, and no word of the rest", answer("| RFC 5382 REQ-4 | a rule | holds in part: `vnicbridge.TestARP` |\n"), "in part, without what does not hold"},
		{"not met, without a reason", answer("| RFC 5382 REQ-4 | a rule | not met |\n"), "is no answer"},
		{"too few cells", replaceRow("A2", "| A2 | a rule |\n"), "row A2 has 2 cells"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse(tt.page); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestRequirementIDs checks that no requirement is lost: Parse takes a row for one only if its
// id has the form of one.
func TestRequirementIDs(t *testing.T) {
	ids := RequirementIDs()
	for i, id := range ids {
		if !requirementID.MatchString(id) {
			t.Errorf("Parse does not take %q for a requirement", id)
		}
		if slices.Contains(ids[:i], id) {
			t.Errorf("%s is listed twice", id)
		}
	}
	for _, id := range []string{
		"RFC 4787 REQ-14", "RFC 5227 §2.1.1", "RFC 6092 REC-50", "RFC 4443 §2.4 f", "RFC 8504 §5.12", "RFC 9131",
	} {
		if !slices.Contains(ids, id) {
			t.Errorf("%s is missing", id)
		}
	}
}

// TestConformancePage checks that the project's own page has the whole contract.
func TestConformancePage(t *testing.T) {
	if _, err := Read("../../../docs/conformance.md"); err != nil {
		t.Error(err)
	}
}
