package main

import (
	"fmt"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// cannotRun has the examples that no test can run: words of the example, and the reason.
var cannotRun = map[string]string{
	"caddy_vnic_segment_healthy == 0":   "expressions for a Prometheus server; TestMetricsAreDocumented holds their names",
	"qemu-system-x86_64":                "it takes the image of a guest; TestOtherServersPage drives the TAP in its place",
	"listing the nftables tables fails": "it takes a kernel without nf_tables",
}

// excuse returns why no test can run an example, or "" if a test can.
func excuse(e examples.Example) string {
	for words, why := range cannotRun {
		if strings.Contains(e.Text, words) {
			return why
		}
	}
	return ""
}

// notRun lists the examples that a test could run but none has, and those of cannotRun
// that a test has run.
func notRun(all []examples.Example, r *testRun) []string {
	var problems []string
	for _, e := range all {
		why := excuse(e)
		switch {
		case why == "" && !r.examples[e.String()]:
			problems = append(problems, fmt.Sprintf("%s: no test runs this example", e))
		case why != "" && r.examples[e.String()]:
			problems = append(problems, fmt.Sprintf("%s: a test runs this example, so cannotRun in cmd/conformance must not list it: %s", e, why))
		}
	}
	return problems
}
