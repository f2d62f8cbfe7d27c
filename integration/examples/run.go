package examples

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Attribute is the key of a test's attribute that says which example it runs. The
// run of all tests is held against the examples by cmd/conformance.
const Attribute = "example"

// Runs notes that a test runs the example, and returns its text.
func (e Example) Runs(t testing.TB) string {
	t.Helper()
	t.Attr(Attribute, e.String())
	return e.Text
}

// On are the examples of a page, named by its path from the root of the repository.
func On(t testing.TB, page string) []Example {
	t.Helper()
	examples, err := of(repository(t), page)
	if err != nil {
		t.Fatal(err)
	}
	return examples
}

// Beginning is the text of the one example of a page that begins with certain words.
// The test is to run it.
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

// repository is where the test is: its root has go.mod.
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
