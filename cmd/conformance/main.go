// Command conformance turns a test run into a verdict on the contract.
//
//	go test -json ./... | conformance docs/conformance.md
//
// It reads the JSON event stream of `go test -json` from standard input and prints
// what go test itself would print, and a line for each slow test while it runs.
//
// Then it checks two things. First, the page has every row of the contract, and every test
// that a row names has passed on every data path in force. Second, a test has run each
// example of the documentation, which is the page's directory, its folders, and the
// directory above.
//
// It exits with status 1 if a row is not held, if no test has run an example, if a build or
// a test failed, or if a test was skipped, because a skipped test proves nothing. The last
// lines list all problems, and for each failed test its first message.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ./... | conformance docs/conformance.md")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run copies the test run to out in human-readable form and ends with the
// verdict. The error says how many problems were listed.
func run(pagePath string, events io.Reader, out io.Writer) error {
	p, err := contract.Read(pagePath)
	if err != nil {
		return err
	}
	r, err := readRun(events, out)
	if err != nil {
		return fmt.Errorf("reading the test run: %w", err)
	}
	all, err := examples.All(os.DirFS(filepath.Join(filepath.Dir(pagePath), "..")))
	if err != nil {
		return fmt.Errorf("reading the documentation: %w", err)
	}
	problems := slices.Concat(r.problems(), unheld(p, r), notRun(all, r))
	for _, problem := range problems {
		fmt.Fprintln(out, "conformance:", problem)
	}
	if len(problems) > 0 {
		return fmt.Errorf("not held; problems listed above: %d", len(problems))
	}
	fmt.Fprintln(out, "conformance:", summary(p))
	return nil
}
