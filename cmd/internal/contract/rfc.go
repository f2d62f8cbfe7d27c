package contract

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// rfcs lists the documents that the page must answer, with the names of their requirements.
// A document without names is answered as a whole.
var rfcs = []struct {
	number       int
	requirements []string
}{
	{4787, numbered("REQ", 1, 14)},
	{5382, numbered("REQ", 1, 10)},
	{5508, numbered("REQ", 1, 11)},
	{7857, sections("2 2.1 2.2 3 4 5 6 7 7.1 8 9 10 11 12")},
	{5227, sections("2.1 2.1.1 2.2 2.3 2.4 2.5 2.6")},

	// IPv6: the link.
	{4861, sections("6.3 7.1.1 7.1.2 7.2.2 7.2.3 7.2.4 7.2.5 7.2.6 7.3 8.3")},
	{4862, sections("5.3 5.4.1 5.4.2 5.4.3 5.4.4 5.4.5 5.5")},
	{7527, nil}, {4429, nil}, {9131, nil},
	{4291, sections("2.8")},
	{7217, nil}, {5453, nil}, {7136, nil},
	{3810, sections("6.1 6.2 6.3 7 8.2.1 8.2.2")},
	{3590, nil},

	// IPv6: packets.
	{4443, append(rules("2.4", "abcdef"), sections("3.1 3.2 3.3 3.4 4.2")...)},
	{8200, sections("4 4.5 5 8.1")},
	{5095, nil}, {5722, nil}, {6946, nil}, {6980, nil}, {7112, nil}, {8021, nil},
	{8201, nil}, {6437, nil}, {6935, nil}, {6936, nil},

	// IPv6: what passes, and what a node does.
	{6092, slices.Concat(
		numbered("REC", 1, 12), numbered("REC", 14, 19), numbered("REC", 21, 24),
		numbered("REC", 31, 37), numbered("REC", 49, 50),
	)},
	{4890, sections("4.3.1 4.3.2 4.3.3 4.3.4 4.3.5 4.4.1 4.4.2 4.4.3 4.4.4 4.4.5")},
	{8504, sections("5.1 5.2 5.3 5.4 5.7 5.8 5.11 5.12 6.1")},
	{5902, nil}, {6105, nil}, {6146, nil}, {6296, nil}, {6583, nil}, {7084, nil},
	{7113, nil}, {7404, nil}, {7690, nil}, {7915, nil}, {8415, nil},
}

// numbered names the requirements of a document that numbers them: REQ-1 and so on.
func numbered(kind string, first, last int) (names []string) {
	for n := first; n <= last; n++ {
		names = append(names, fmt.Sprintf("%s-%d", kind, n))
	}
	return names
}

// sections names the sections with requirements of a document that does not number these.
func sections(numbers string) (names []string) {
	for _, number := range strings.Fields(numbers) {
		names = append(names, "§"+number)
	}
	return names
}

// rules names the rules of a section that gives each a letter.
func rules(section, letters string) (names []string) {
	for _, letter := range letters {
		names = append(names, fmt.Sprintf("§%s %c", section, letter))
	}
	return names
}

// RequirementIDs lists the ids of all requirements, in order.
func RequirementIDs() []string {
	var ids []string
	for _, rfc := range rfcs {
		document := fmt.Sprintf("RFC %d", rfc.number)
		if rfc.requirements == nil {
			ids = append(ids, document)
		}
		for _, name := range rfc.requirements {
			ids = append(ids, document+" "+name)
		}
	}
	return ids
}

var requirementID = regexp.MustCompile(`^RFC \d+( (RE[QC]-\d+|§[\d.]+( [a-z])?))?$`)

// Requirement is a requirement of an RFC, with the page's answer.
type Requirement struct {
	ID     string
	Answer string // one of Answers
	Tests  []Test // that show that it holds
}

// Answers are the answers that the page may give to a requirement.
var Answers = []string{"holds in part", "holds", "does not apply", "not met"}

// parseRequirement reads the last cell of a requirement: `holds: <tests>`, `holds in
// part: <tests>; <what does not>`, or `does not apply: <why>`, `not met: <why>`.
func parseRequirement(id, cell string) (r Requirement, err error) {
	answer, text, found := strings.Cut(cell, ": ")
	if !found || !slices.Contains(Answers, answer) {
		return r, fmt.Errorf("%q is no answer: want %s, and why", cell, strings.Join(Answers, ", "))
	}
	r = Requirement{ID: id, Answer: answer}
	if !strings.HasPrefix(answer, "holds") {
		return r, nil
	}
	tests, rest, more := strings.Cut(text, "; ")
	if r.Tests, err = parseTests(tests); err != nil {
		return r, err
	}
	switch {
	case len(r.Tests) == 0:
		return r, errors.New("it holds, but no test is named")
	case answer == "holds in part" && rest == "":
		return r, errors.New("in part, without what does not hold: want holds in part: <tests>; <what does not>")
	case answer == "holds" && more:
		return r, errors.New("it holds, with a reservation: that is holds in part")
	}
	return r, nil
}
