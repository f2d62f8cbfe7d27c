package caddymodule

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

const reference = "../docs/caddyfile.md"

// TestReferenceExamples adapts every Caddyfile of the reference.
func TestReferenceExamples(t *testing.T) {
	examples := regexp.MustCompile("(?ms)^```caddyfile\n(.*?)^```$").FindAllStringSubmatch(read(t, reference), -1)
	if len(examples) == 0 {
		t.Fatal("no examples found")
	}
	for _, example := range examples {
		if _, err := adapt(example[1]); err != nil {
			t.Errorf("%v\n%s", err, example[1])
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
