package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// wrkReport is a script for wrk that reports its totals exactly: what wrk prints
// by itself is rounded.
const wrkReport = `
function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format(
		'wrk-report {"requests":%d,"bytes":%d,"microseconds":%d,"failed":%d,"refused":%d,"read":%d,"write":%d,"timeout":%d}\n',
		summary.requests, summary.bytes, summary.duration, e.status, e.connect, e.read, e.write, e.timeout))
end
`

// wrkTotals is what wrk did.
type wrkTotals struct {
	Requests     int64 `json:"requests"`
	Bytes        int64 `json:"bytes"`
	Microseconds int64 `json:"microseconds"`
	Failed       int64 `json:"failed"`  // answers other than 2xx and 3xx
	Refused      int64 `json:"refused"` // connections not made
	Read         int64 `json:"read"`
	Write        int64 `json:"write"`
	Timeout      int64 `json:"timeout"`
}

// broken counts requests that met no answer.
func (t wrkTotals) broken() int64 { return t.Refused + t.Read + t.Write + t.Timeout }

// parseWrk finds the report in what wrk printed. Wrong answers are an error, as
// their rate would mean something else; broken requests are not.
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

// requestRate is in requests per second.
func (t wrkTotals) requestRate() float64 { return float64(t.Requests) / t.seconds() }

// megabytes is in 10⁶ bytes per second, headers included.
func (t wrkTotals) megabytes() float64 { return float64(t.Bytes) / 1e6 / t.seconds() }
