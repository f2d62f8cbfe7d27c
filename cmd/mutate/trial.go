package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

// A defect may make its tests hang, so they may run for patience only. All tests without a
// defect may run for forAll.
const (
	patience = 3 * time.Minute
	forAll   = time.Hour
)

// result is the outcome of trying a defect.
type result struct {
	mutation
	found string // the test that failed; empty: the defect survived
	err   error  // why it could not be tried
}

var errNotTried = errors.New("the run ended before all defects were tried")

// tryWithout runs all tests of todo without a defect. It is an error if one fails.
func (t *tree) tryWithout(ctx context.Context, page *contract.Page, todo []mutation) error {
	var all []contract.Test
	for _, m := range todo {
		tests, err := m.testsOn(page)
		if err != nil {
			return err
		}
		for _, test := range tests {
			if !slices.Contains(all, test) {
				all = append(all, test)
			}
		}
	}
	found, err := t.test(ctx, all, forAll)
	if err == nil && found != "" {
		err = fmt.Errorf("a test fails without any defect, repair that first: %s", found)
	}
	return err
}

// tryAll tries the defects, each in one of the trees, and prints the outcome of each. It ends early
// with the context.
func tryAll(ctx context.Context, trees []*tree, page *contract.Page, todo []mutation, out io.Writer) []result {
	idle := make(chan *tree, len(trees))
	for _, t := range trees {
		idle <- t
	}
	results := make([]result, len(todo))
	var running sync.WaitGroup
	for i, m := range todo {
		results[i] = result{mutation: m, err: errNotTried}
		if ctx.Err() != nil {
			continue
		}
		t := <-idle
		running.Go(func() {
			defer func() { idle <- t }()
			found, err := t.try(ctx, page, m)
			results[i] = result{m, found, err}
			verdict := found
			switch {
			case err != nil:
				verdict = "NOT TRIED"
			case found == "":
				verdict = "SURVIVED"
			}
			fmt.Fprintf(out, "%-3s %s (%s): %s\n", m.row, m.defect, m.file, verdict)
		})
	}
	running.Wait()
	return results
}

// ofWholeRows returns the results of the rows all of whose defects were tried.
func ofWholeRows(results []result) (whole []result) {
	partly := make(map[string]bool)
	for _, r := range results {
		partly[r.row] = partly[r.row] || r.err != nil
	}
	return slices.DeleteFunc(slices.Clone(results), func(r result) bool { return partly[r.row] })
}

// notTried joins the errors of defects that could not be tried.
func notTried(results []result) error {
	var errs []error
	for _, r := range results {
		if !slices.Contains(errs, r.err) { // errNotTried once
			errs = append(errs, r.err)
		}
	}
	return errors.Join(errs...)
}

func (t *tree) try(ctx context.Context, page *contract.Page, m mutation) (found string, err error) {
	tests, err := m.testsOn(page)
	if err != nil {
		return "", err
	}
	restore, err := t.mutate(ctx, m)
	if restore != nil {
		defer func() { err = errors.Join(err, restore()) }()
	}
	if err != nil {
		return "", err
	}
	if found, err = t.test(ctx, tests, patience); err != nil {
		return "", fmt.Errorf("row %s, %s: %w", m.row, m.defect, err)
	}
	return found, nil
}

// test runs tests, package by package, and returns the first that fails, or "".
func (t *tree) test(ctx context.Context, tests []contract.Test, timeout time.Duration) (found string, err error) {
	byPackage := make(map[string][]string)
	for _, test := range tests {
		byPackage[test.Package] = append(byPackage[test.Package], test.Name)
	}
	for _, pkg := range slices.SortedFunc(maps.Keys(byPackage), quickFirst) {
		if found, err = t.testPackage(ctx, pkg, byPackage[pkg], timeout); found != "" || err != nil {
			return found, err
		}
	}
	return "", nil
}

// quickFirst orders packages by the time that their tests take.
func quickFirst(a, b string) int {
	slow := []string{"vnicbridge", "integration"}
	return cmp.Or(cmp.Compare(slices.Index(slow, a), slices.Index(slow, b)), cmp.Compare(a, b))
}

// dirOf returns the directory of a package whose tests the contract names.
func dirOf(pkg string) string {
	if slices.Contains([]string{"vnicbridge", "integration", "sites"}, pkg) {
		return pkg
	}
	return "vnicbridge/internal/" + pkg
}

var failure = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+) `)

func (t *tree) testPackage(ctx context.Context, pkg string, names []string, timeout time.Duration) (found string, err error) {
	pattern := "^(" + strings.Join(names, "|") + ")$"
	output, err := t.command(ctx, "go", "test", "-count=1", "-vet=off", "-failfast", "-timeout="+timeout.String(), "-run", pattern, "./"+dirOf(pkg)).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return "", nil
	case !errors.As(err, &exit):
		return "", err
	}
	return verdict(pkg, output)
}

// verdict returns which test a failed run shows to fail. It is an error if code does not
// compile, or if the kernel refuses the programs: then no test has found anything.
func verdict(pkg string, output []byte) (found string, err error) {
	if bytes.Contains(output, []byte("[build failed]")) || bytes.Contains(output, []byte("[setup failed]")) {
		return "", fmt.Errorf("the code does not compile:\n%s", output)
	}
	if bytes.Contains(output, []byte("the kernel data path is in use: false, want true")) || bytes.Contains(output, []byte("datapath kernel: loading")) {
		return "", fmt.Errorf("the kernel refuses the programs:\n%s", output)
	}
	if all := failure.FindAllSubmatch(output, -1); len(all) > 0 {
		// The lines of subtests follow that of their test, so the last one that belongs to
		// the first failed test is the most exact.
		deepest := string(all[0][1])
		for _, m := range all[1:] {
			if strings.HasPrefix(string(m[1]), deepest+"/") {
				deepest = string(m[1])
			}
		}
		return pkg + "." + deepest, nil
	}
	switch {
	case bytes.Contains(output, []byte("panic: test timed out")):
		return pkg + ": the tests hang", nil
	case bytes.Contains(output, []byte("panic: ")), bytes.Contains(output, []byte("fatal error: ")):
		return pkg + ": a panic", nil
	}
	return "", fmt.Errorf("the run failed, but no test did:\n%s", output)
}

func survivors(results []result) (n int) {
	for _, r := range results {
		if r.err == nil && r.found == "" {
			n++
		}
	}
	return n
}
