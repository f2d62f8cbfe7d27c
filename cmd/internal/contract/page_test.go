package contract

import (
	"fmt"
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
	answer := func(cell string) string {
		return strings.Replace(good, "| RFC 5382 REQ-4 | a rule | not met: why. |\n", cell, 1)
	}
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

// TestConformancePage checks that the project's own page has the whole contract.
func TestConformancePage(t *testing.T) {
	if _, err := Read("../../../docs/conformance.md"); err != nil {
		t.Error(err)
	}
}
