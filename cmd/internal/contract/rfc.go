package contract

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// rfcs lists the documents that the page must answer. Each has numbered requirements, or
// sections with requirements.
var rfcs = []struct {
	number       int
	requirements int      // REQ-1 and so on
	sections     []string // of a document that does not number its requirements
}{
	{number: 4787, requirements: 14},
	{number: 5382, requirements: 10},
	{number: 5508, requirements: 11},
	{number: 7857, sections: []string{"2", "2.1", "2.2", "3", "4", "5", "6", "7", "7.1", "8", "9", "10", "11", "12"}},
	{number: 5227, sections: []string{"2.1", "2.1.1", "2.2", "2.3", "2.4", "2.5", "2.6"}},
}

// RequirementIDs lists the ids of all requirements, in order.
func RequirementIDs() []string {
	var ids []string
	for _, rfc := range rfcs {
		for n := 1; n <= rfc.requirements; n++ {
			ids = append(ids, fmt.Sprintf("RFC %d REQ-%d", rfc.number, n))
		}
		for _, section := range rfc.sections {
			ids = append(ids, fmt.Sprintf("RFC %d §%s", rfc.number, section))
		}
	}
	return ids
}

var requirementID = regexp.MustCompile(`^RFC \d+ (REQ-\d+|§[\d.]+)$`)

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
