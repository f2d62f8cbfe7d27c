// Command mutate tests the tests of the contract.
//
//	go run ./cmd/mutate [-row A1,F3] [-docs docs/evidence]
//
// For each row of docs/conformance.md it has some defects: small changes of the code behind
// the row, in Go or in the C of the kernel data path. It makes one defect at a time in a copy
// of this tree, and runs tests of that row there. One of these must fail.
//
// It exits with status 1 if a defect survives, or if the code has changed so that a defect
// can no longer be made. It needs Linux and root, as the tests do, and clang-14 for the C.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-vnic/caddy-vnic/cmd/internal/contract"
)

func main() {
	rows := flag.String("row", "", "only these rows, as in A1,F3")
	docs := flag.String("docs", "", "rewrite the rows that were tried in this directory's mutations.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *rows, *docs, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// run tries the defects of the named rows, or of all rows if none is named.
func run(ctx context.Context, rows, docs string, out io.Writer) error {
	page, err := contract.Read("docs/conformance.md")
	if err != nil {
		return fmt.Errorf("%w (run it in the repository's root)", err)
	}
	todo, err := choose(rows)
	if err != nil {
		return err
	}
	var trees []*tree
	for range runtime.NumCPU() {
		t, err := copyTree(".")
		if err != nil {
			return err
		}
		defer os.RemoveAll(t.dir)
		trees = append(trees, t)
	}
	fmt.Fprintln(out, "first without any defect")
	if err := trees[0].tryWithout(ctx, page, todo); err != nil {
		return err
	}
	results := tryAll(ctx, trees, page, todo, out)
	if docs != "" {
		if err := updatePage(filepath.Join(docs, "mutations.md"), page, ofWholeRows(results), time.Now()); err != nil {
			return err
		}
	}
	if err := notTried(results); err != nil {
		return err
	}
	if n := survivors(results); n > 0 {
		return fmt.Errorf("%d of %d defects survived", n, len(results))
	}
	fmt.Fprintf(out, "all %d defects were found\n", len(results))
	return nil
}

// choose returns the mutations of the rows in a comma-separated list, or all if it is empty.
func choose(rows string) ([]mutation, error) {
	all := mutations()
	if rows == "" {
		return all, nil
	}
	wanted := strings.Split(rows, ",")
	for _, id := range wanted {
		if !slices.Contains(contract.IDs(), id) {
			return nil, fmt.Errorf("row %s is not in the contract", id)
		}
	}
	return slices.DeleteFunc(all, func(m mutation) bool { return !slices.Contains(wanted, m.row) }), nil
}
