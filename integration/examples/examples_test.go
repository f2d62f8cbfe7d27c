package examples

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestAll(t *testing.T) {
	repository := fstest.MapFS{
		"README.md": {Data: []byte("# Title\n\n1. **Do**:\n\n       make lab\n\n   and so on\n    that is no example\n")},
		"docs/page.md": {Data: []byte(`## Section

` + "```caddyfile" + `
{
	admin off

}
` + "```" + `

` + "```text" + `
a picture
` + "```" + `

## Other

    first 'is
        indented

    third'

| symptom | look | fix |
|---|---|---|
| none | ` + "`look`" + ` | |

| symptom | reason |
|---|---|
| none | none |
`)},
		"docs/evidence/page.md": {Data: []byte("# Evidence\n\n    make bench\n")},
		"docs/page.txt":         {Data: []byte("\n    no page\n")},
	}
	got, err := All(repository)
	if err != nil {
		t.Fatal(err)
	}
	want := []Example{
		{"README.md", 5, "", "Title", "make lab\n"},
		{"docs/page.md", 4, "caddyfile", "Section", "{\n\tadmin off\n\n}\n"},
		{"docs/page.md", 16, "", "Other", "first 'is\n    indented\n\nthird'\n"},
		{"docs/page.md", 23, "fix", "Other", "| none | `look` | |"},
		{"docs/evidence/page.md", 3, "", "Evidence", "make bench\n"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("there are\n%q, want\n%q", got, want)
	}
}
