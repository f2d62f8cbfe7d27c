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

// event is one line of `go test -json`: see `go doc test2json` and `go help
// buildjson`. A package that does not build fails, like one whose tests do.
type event struct {
	Time    time.Time
	Action  string
	Package string
	Test    string // empty for an event of the package
	Output  string

	Key, Value string // of an attribute that a test has set
}

// slow is the time from which a test that passed gets a line: enough to see that a
// long run moves, and where its time goes.
const slow = time.Second

// test is the key of a test's results; a package's own have the name "".
type test struct{ pkg, name string }

// testRun is what became of the packages and tests of a run.
type testRun struct {
	out      io.Writer
	order    []test // in the order of their beginning
	began    map[test]time.Time
	outcomes map[test]string   // "run", then "pass", "fail" or "skip"
	output   map[test][]string // not printed yet
	said     map[test]string   // first by those that did not pass
	examples map[string]bool   // of the documentation that a test has run
}

// readRun follows a run to its end and prints it to out on the way.
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

// line takes one line of the stream. What is no event is printed as it stands.
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

// end records a test's or a package's outcome and prints what go test would.
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
		// What go test says has elapsed leaves subtests out that run side by side.
		if took := e.Time.Sub(r.began[t]); took >= slow {
			fmt.Fprintf(r.out, "--- PASS: %s.%s (%.2fs)\n", path.Base(t.pkg), t.name, took.Seconds())
		}
	}
	delete(r.output, t)
}

// aside is what a test says with t.Error or t.Log, after the line of the source.
var aside = regexp.MustCompile(`^\s+(\w+\.go:\d+: .*)`)

// firstSaid finds the first line that a test says itself: it tells the cause where
// pages of a server's log follow.
func firstSaid(output []string) string {
	for _, line := range output {
		if m := aside.FindStringSubmatch(line); m != nil {
			return ": " + m[1]
		}
	}
	return ""
}

// flushUnfinished prints the output of the tests in which a package's run broke
// off: a panic or a timeout is told there.
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

// outcome is what became of a test on a data path: of its subtest of that name,
// or, where the test is a table, of those of its cases. It is "pass" if all
// passed, else what one of the others ended with: "fail", "skip", or "run" for
// one that did not end. It is "" if none ran.
func (r *testRun) outcome(ref contract.Test, datapath string) string {
	found := ""
	for _, t := range r.order {
		names := strings.Split(t.name, "/")
		if path.Base(t.pkg) != ref.Package || names[0] != ref.Name || !slices.Contains(names[1:], datapath) {
			continue
		}
		if found == "" || found == "pass" {
			found = r.outcomes[t]
		}
	}
	return found
}

// problems lists what failed, was skipped or did not end, whatever the page says.
// A package is listed when none of its tests says why it failed.
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
		// A package without test files counts as skipped, which is no fault.
		if outcome := r.outcomes[t]; t.name == "" && !told[t.pkg] && (outcome == "fail" || outcome == "run") {
			problems = append(problems, fmt.Sprintf("package %s %s", t.pkg, verdict[outcome]))
		}
	}
	return problems
}
