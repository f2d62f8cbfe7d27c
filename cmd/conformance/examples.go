package main

import (
	"fmt"

	"github.com/caddy-vnic/caddy-vnic/internal/examples"
)

// cannotRun are the examples that no test can run, by their text, and why.
var cannotRun = map[string]string{}

// notRun lists the examples that no test has run and that one could, and those that
// one has run although it cannot.
func notRun(all []examples.Example, r *testRun) []string {
	var problems []string
	for _, e := range all {
		why, excused := cannotRun[e.Text]
		switch {
		case !excused && !r.examples[e.String()]:
			problems = append(problems, fmt.Sprintf("%s: no test runs this example", e))
		case excused && r.examples[e.String()]:
			problems = append(problems, fmt.Sprintf("%s: a test runs this example, which is not to be possible: %s", e, why))
		}
	}
	return problems
}
