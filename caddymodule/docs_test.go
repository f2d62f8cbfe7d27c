package caddymodule

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const reference = "../docs/caddyfile.md"

// TestExamples adapts every Caddyfile of the documentation.
func TestExamples(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		text := read(t, page)
		examples := regexp.MustCompile("(?ms)^```caddyfile\n(.*?)^```$").FindAllStringSubmatch(text, -1)
		if len(examples) != strings.Count(text, "```caddyfile") {
			t.Errorf("%s: an example is not seen: it begins and ends at the left margin", page)
		}
		for _, example := range examples {
			if _, err := adapt(example[1]); err != nil {
				t.Errorf("%s: %v\n%s", page, err, example[1])
			}
		}
	}
	for _, page := range []string{reference, "../docs/installing.md", "../README.md"} {
		if !strings.Contains(read(t, page), "```caddyfile") {
			t.Errorf("%s has no example", page)
		}
	}
}

// TestReferenceErrors looks for every error that the reference quotes among
// those that the fixtures provoke.
func TestReferenceErrors(t *testing.T) {
	_, section, _ := strings.Cut(read(t, reference), "\n## Errors\n")
	quoted := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1)
	if len(quoted) == 0 {
		t.Fatal("no errors found")
	}
	all := fixtures(t)
	provoked := func(message string) bool {
		for name, fixture := range all {
			if strings.HasPrefix(name, "error_") && strings.Contains(fixture.want, message) {
				return true
			}
		}
		return false
	}
	for _, message := range quoted {
		if !provoked(message[1]) {
			t.Errorf("no fixture provokes %q", message[1])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
