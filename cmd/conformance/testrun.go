package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// event is one line of `go test -json`: see `go doc test2json` and `go help buildjson`. A
// package that does not build ends with "fail", as one whose tests fail does.
type event struct {
	Time    time.Time
	Action  string
	Package string
	Test    string // empty for an event of the package
	Output  string

	Key, Value string // of an attribute that a test has set (testing.T.Attr)
}

// slow is the time from which a passed test gets a line, so that a reader sees that a long
// run makes progress, and where its time goes.
const slow = time.Second

// test identifies a test, or a whole package if the name is "".
type test struct{ pkg, name string }

// testRun has the outcomes of a run's packages and tests.
type testRun struct {
	out      io.Writer
	order    []test // in the order in which they began
	began    map[test]time.Time
	outcomes map[test]string   // "run", then "pass", "fail" or "skip"
	output   map[test][]string // not printed yet
	said     map[test]string   // the first message of each test that did not pass
	examples map[string]bool   // those of the documentation that a test has run
}

// readRun reads a run to its end, and prints it to out meanwhile.
func readRun(events io.Reader, out io.Writer) (*testRun, error) {
	r := &testRun{out: out, began: map[test]time.Time{}, outcomes: map[test]string{}, output: map[test][]string{}, said: map[test]string{}, examples: map[string]bool{}}
	in := bufio.NewReader(events)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// line handles one line of the stream. A line that is no event is printed unchanged.
func (r *testRun) line(line []byte) {
	var e event
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil {
		r.out.Write(line)
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "start", "run":
		r.order = append(r.order, t)
		r.began[t] = e.Time
		r.outcomes[t] = "run"
	case "output":
		r.output[t] = append(r.output[t], e.Output)
	case "attr":
		if e.Key == examples.Attribute {
			r.examples[e.Value] = true
		}
	case "pass", "fail", "skip":
		r.end(t, e)
	}
}

// end records the outcome of a test or a package, and prints what go test would print.
func (r *testRun) end(t test, e event) {
	if _, started := r.outcomes[t]; !started {
		r.order = append(r.order, t)
	}
	r.outcomes[t] = e.Action
	switch {
	case t.name == "" && e.Action == "fail":
		r.flushUnfinished(t.pkg)
		r.flush(t)
	case t.name == "":
		r.printPackage(t)
	case e.Action != "pass":
		r.said[t] = firstSaid(r.output[t])
		r.flush(t)
	case !strings.Contains(t.name, "/"):
		// The elapsed time that go test gives does not include parallel subtests.
		if took := e.Time.Sub(r.began[t]); took >= slow {
			fmt.Fprintf(r.out, "--- PASS: %s.%s (%.2fs)\n", path.Base(t.pkg), t.name, took.Seconds())
		}
	}
	delete(r.output, t)
}

// aside matches a message of t.Error or t.Log, which begins with file and line.
var aside = regexp.MustCompile(`^\s+(\w+\.go:\d+: .*)`)

// firstSaid returns the test's own first message. It tells the cause even if pages of a
// server's log follow.
func firstSaid(output []string) string {
	for _, line := range output {
		if m := aside.FindStringSubmatch(line); m != nil {
			return ": " + m[1]
		}
	}
	return ""
}

// flushUnfinished prints the output of tests that have not ended. If a package's run broke
// off, their output has the panic or the timeout.
func (r *testRun) flushUnfinished(pkg string) {
	for _, t := range r.order {
		if t.pkg == pkg && t.name != "" && r.outcomes[t] == "run" {
			r.flush(t)
		}
	}
}

// flush prints a test's output without the marks of -v.
func (r *testRun) flush(t test) {
	for _, line := range r.output[t] {
		if !strings.HasPrefix(line, "=== ") && line != "PASS\n" {
			fmt.Fprint(r.out, line)
		}
	}
}

// printPackage prints the one line that go test prints for a package that
// passed or has no tests.
func (r *testRun) printPackage(t test) {
	for _, line := range r.output[t] {
		if strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t") {
			fmt.Fprint(r.out, line)
		}
	}
}

// outcome returns the outcome of a test on a data path. The test has a subtest for the data
// path, or each of its cases has one. The outcome is "pass" if all of these passed, otherwise
// that of one that did not pass: "fail", "skip", or "run" if it did not end. It is "" if none
// ran.
func (r *testRun) outcome(ref contract.Test, datapath string) string {
	found := ""
	for _, t := range r.order {
		names := strings.Split(t.name, "/")
		if path.Base(t.pkg) != ref.Package || names[0] != ref.Name || !slices.Contains(names, datapath) {
			continue
		}
		if found == "" || found == "pass" {
			found = r.outcomes[t]
		}
	}
	return found
}

// problems lists the tests that failed, were skipped or did not end, whether the page names
// them or not. A package that failed is listed if none of its tests is.
func (r *testRun) problems() []string {
	if len(r.order) == 0 {
		return []string{"no test ran"}
	}
	var problems []string
	told := map[string]bool{}
	for _, t := range r.order {
		if outcome := r.outcomes[t]; t.name != "" && outcome != "pass" {
			problems = append(problems, fmt.Sprintf("%s.%s %s%s", path.Base(t.pkg), t.name, verdict[outcome], r.said[t]))
			told[t.pkg] = true
		}
	}
	for _, t := range r.order {
		// go test says "skip" of a package without test files, which is no problem.
		if outcome := r.outcomes[t]; t.name == "" && !told[t.pkg] && (outcome == "fail" || outcome == "run") {
			problems = append(problems, fmt.Sprintf("package %s %s", t.pkg, verdict[outcome]))
		}
	}
	return problems
}
