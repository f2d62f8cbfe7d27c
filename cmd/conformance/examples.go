package main

import (
	"fmt"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// cannotRun are the examples that no test can run, by words of theirs, and why.
var cannotRun = map[string]string{
	"caddy_vnic_segment_healthy == 0":   "expressions for a Prometheus server; TestMetricsAreDocumented holds their names",
	"listing the nftables tables fails": "it takes a kernel without nf_tables",
}

// excuse is why an example cannot be run, if it cannot.
func excuse(e examples.Example) string {
	for words, why := range cannotRun {
		if strings.Contains(e.Text, words) {
			return why
		}
	}
	return ""
}

// notRun lists the examples that no test has run and that one could, and those that
// one has run although it cannot.
func notRun(all []examples.Example, r *testRun) []string {
	var problems []string
	for _, e := range all {
		why := excuse(e)
		switch {
		case why == "" && !r.examples[e.String()]:
			problems = append(problems, fmt.Sprintf("%s: no test runs this example", e))
		case why != "" && r.examples[e.String()]:
			problems = append(problems, fmt.Sprintf("%s: a test runs this example, which is not to be possible: %s", e, why))
		}
	}
	return problems
}
