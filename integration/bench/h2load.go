package main

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// loadTotals has the totals of a run of h2load, or of the load generator for HTTP/3.
type loadTotals struct {
	Took   time.Duration
	Done   int64 // answered with 2xx
	Broken int64 // got no answer
	Bytes  int64 // of the answers' bodies
}

var (
	h2loadTook     = regexp.MustCompile(`(?m)^finished in ([0-9.]+(?:us|ms|s|m|h)),`)
	h2loadRequests = regexp.MustCompile(`(?m)^requests: .* (\d+) failed, (\d+) errored, (\d+) timeout$`)
	h2loadStatus   = regexp.MustCompile(`(?m)^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$`)
	h2loadTraffic  = regexp.MustCompile(`(?m)^traffic: .*\((\d+)\) data$`)
)

// parseH2load reads h2load's output. Wrong answers are an error, because their rate would
// mean something else. Broken requests are not.
func parseH2load(output []byte) (t loadTotals, err error) {
	took := h2loadTook.FindSubmatch(output)
	requests, status, traffic := numbers(h2loadRequests, output), numbers(h2loadStatus, output), numbers(h2loadTraffic, output)
	if took == nil || requests == nil || status == nil || traffic == nil {
		return t, fmt.Errorf("no report in what h2load printed:\n%s", output)
	}
	if t.Took, err = time.ParseDuration(string(took[1])); err != nil {
		return t, fmt.Errorf("h2load's report: %w", err)
	}
	// h2load's "failed" includes wrong answers; its "errored" and "timeout" do not.
	t.Done, t.Broken, t.Bytes = status[0], requests[1]+requests[2], traffic[0]
	switch {
	case status[1]+status[2]+status[3] > 0:
		return t, fmt.Errorf("h2load got wrong answers: %s", h2loadStatus.Find(output))
	case t.Done == 0 || t.Took <= 0:
		return t, fmt.Errorf("h2load got no answer: %s", h2loadRequests.Find(output))
	}
	return t, nil
}

// numbers returns what a pattern's groups match, or nil if the pattern does not match.
func numbers(pattern *regexp.Regexp, in []byte) (ns []int64) {
	for i, digits := range pattern.FindSubmatch(in) {
		if i == 0 {
			continue
		}
		n, err := strconv.ParseInt(string(digits), 10, 64)
		if err != nil {
			return nil
		}
		ns = append(ns, n)
	}
	return ns
}

// requestRate returns requests per second.
func (t loadTotals) requestRate() float64 { return float64(t.Done) / t.Took.Seconds() }

// megabytes returns megabytes (10⁶ bytes) of bodies per second.
func (t loadTotals) megabytes() float64 { return float64(t.Bytes) / 1e6 / t.Took.Seconds() }
