package examples

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Attribute is the key of the attribute by which a test says which example it runs.
// cmd/conformance reads it, and reports examples that no test has run.
const Attribute = "example"

// Runs records that a test runs the example, and returns the example's text.
func (e Example) Runs(t testing.TB) string {
	t.Helper()
	t.Attr(Attribute, e.String())
	return e.Text
}

// On returns the examples of a page. The page is its path from the root of the repository.
func On(t testing.TB, page string) []Example {
	t.Helper()
	examples, err := of(repository(t), page)
	if err != nil {
		t.Fatal(err)
	}
	return examples
}

// Beginning returns the text of the one example of a page that begins with the words. The
// test must run it.
func Beginning(t testing.TB, page, words string) string {
	t.Helper()
	var found []Example
	for _, e := range On(t, page) {
		if strings.HasPrefix(e.Text, words) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d examples that begin with %q, want one", page, len(found), words)
	}
	return found[0].Runs(t)
}

// repository returns the repository in which the test runs. Its root has go.mod.
func repository(t testing.TB) fs.FS {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return os.DirFS(dir)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod in this directory or above it")
		}
		dir = parent
	}
}
