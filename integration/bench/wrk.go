package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
)

// wrkScript returns a script for wrk. wrk connects to the address, whatever host the URL names,
// and reports exact totals, because what wrk prints by itself is rounded.
func wrkScript(at netip.Addr) string { return fmt.Sprintf(wrkConnect, at) + wrkReport }

const wrkConnect = `
function wrk.resolve(_, service)
	wrk.addrs = wrk.lookup("%s", service)
end
`

const wrkReport = `
function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format(
		'wrk-report {"requests":%d,"bytes":%d,"microseconds":%d,"failed":%d,"refused":%d,"read":%d,"write":%d,"timeout":%d}\n',
		summary.requests, summary.bytes, summary.duration, e.status, e.connect, e.read, e.write, e.timeout))
end
`

// wrkTotals has the totals of a run of wrk.
type wrkTotals struct {
	Requests     int64 `json:"requests"`
	Bytes        int64 `json:"bytes"`
	Microseconds int64 `json:"microseconds"`
	Failed       int64 `json:"failed"`  // answers other than 2xx and 3xx
	Refused      int64 `json:"refused"` // connections that could not be made
	Read         int64 `json:"read"`
	Write        int64 `json:"write"`
	Timeout      int64 `json:"timeout"`
}

// broken returns how many requests got no answer.
func (t wrkTotals) broken() int64 { return t.Refused + t.Read + t.Write + t.Timeout }

// parseWrk finds the report in wrk's output. Wrong answers are an error, because their rate
// would mean something else. Broken requests are not.
func parseWrk(output []byte) (t wrkTotals, err error) {
	_, report, found := bytes.Cut(output, []byte("wrk-report "))
	if !found {
		return t, fmt.Errorf("no report in what wrk printed:\n%s", output)
	}
	report, _, _ = bytes.Cut(report, []byte("\n"))
	if err := json.Unmarshal(report, &t); err != nil {
		return t, fmt.Errorf("wrk's report %s: %w", report, err)
	}
	switch {
	case t.Requests == 0 || t.Microseconds == 0:
		return t, fmt.Errorf("wrk got no answer: %s", report)
	case t.Failed > 0:
		return t, fmt.Errorf("wrk got wrong answers: %s", report)
	}
	return t, nil
}

func (t wrkTotals) seconds() float64 { return float64(t.Microseconds) / 1e6 }

// requestRate returns requests per second.
func (t wrkTotals) requestRate() float64 { return float64(t.Requests) / t.seconds() }

// megabytes returns megabytes (10⁶ bytes) per second, including headers.
func (t wrkTotals) megabytes() float64 { return float64(t.Bytes) / 1e6 / t.seconds() }
