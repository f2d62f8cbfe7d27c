package examples

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

var span = regexp.MustCompile("`([^`\n]+)`")

// Spans returns the code spans of a text: the parts between backticks.
func Spans(text string) (spans []string) {
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		spans = append(spans, m[1])
	}
	return spans
}

// Inline returns the code span of a page's text that begins with the words. If several do,
// they must be equal.
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

// Symptom is a row of a table of symptoms, by the code spans of its cells.
type Symptom struct {
	Look, Fix []string
}

// SymptomOf returns the one row of a page's tables of symptoms that has the words in its first
// cell. The test must cause the symptom, look where the row says, and apply the fix.
func SymptomOf(t testing.TB, page, words string) Symptom {
	t.Helper()
	var found []Example
	for _, e := range On(t, page) {
		if e.Language == "fix" && strings.Contains(cells(e.Text)[0], words) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d symptoms with %q, want one", page, len(found), words)
	}
	row := cells(found[0].Runs(t))
	s := Symptom{Fix: Spans(row[len(row)-1])}
	if len(row) == 3 {
		s.Look = Spans(row[1])
	}
	return s
}

// Table returns the rows of the tables in a section of a page, as cells.
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
		if strings.HasPrefix(line, "|---") { // the row above is the heading
			rows = rows[:len(rows)-1]
			continue
		}
		rows = append(rows, cells(line))
	}
	return rows
}

// cells returns the cells of a table's row.
func cells(row string) []string {
	cells := strings.Split(strings.Trim(row, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

func text(t testing.TB, page string) string {
	t.Helper()
	text, err := fs.ReadFile(repository(t), path.Clean(page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
