package examples

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

var span = regexp.MustCompile("`([^`\n]+)`")

// Spans are the code spans of a text: what stands between backticks.
func Spans(text string) (spans []string) {
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		spans = append(spans, m[1])
	}
	return spans
}

// Inline is the one code span of a page's text, or one of several that are the same,
// that begins with certain words.
func Inline(t testing.TB, page, words string) string {
	t.Helper()
	found := ""
	for _, s := range Spans(text(t, page)) {
		if !strings.HasPrefix(s, words) || s == found {
			continue
		}
		if found != "" {
			t.Fatalf("%s has `%s` and `%s`, want one that begins with %q", page, found, s, words)
		}
		found = s
	}
	if found == "" {
		t.Fatalf("%s has nothing that begins with `%s", page, words)
	}
	return found
}

// Table has the rows of the tables in a section of a page, each by its cells.
func Table(t testing.TB, page, section string) (rows [][]string) {
	t.Helper()
	_, rest, found := strings.Cut(text(t, page), "\n## "+section+"\n")
	if !found {
		t.Fatalf("%s has no section %q", page, section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		if strings.HasPrefix(line, "|---") { // what stands above it is a heading
			rows = rows[:len(rows)-1]
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func text(t testing.TB, page string) string {
	t.Helper()
	text, err := fs.ReadFile(repository(t), path.Clean(page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
