// Package examples extracts the examples of the documentation for the tests that run
// them, so that a page and its test cannot differ.
//
// A code block is an example, if it is fenced, or indented by four spaces or more. So is a
// row of a table whose last column is headed "fix": a symptom, where to look, and its fix.
// A fenced block of the languages "text" and "mermaid" is a picture, not an example.
package examples

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Example is an example of a page.
type Example struct {
	Page     string // its path from the root of the repository: docs/installing.md
	Line     int    // of its first line, from 1
	Language string // of a fenced block; empty for an indented one, "fix" for a row
	Section  string // the heading above it
	Text     string // without indentation
}

// String returns the example's place, as in docs/installing.md:8.
func (e Example) String() string { return fmt.Sprintf("%s:%d", e.Page, e.Line) }

// All returns the examples of all pages: the Markdown files in the repository's root, in docs
// and in the folders of docs.
func All(repository fs.FS) (all []Example, err error) {
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		pages, err := fs.Glob(repository, pattern)
		if err != nil {
			return nil, err
		}
		for _, page := range pages {
			found, err := of(repository, page)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

func of(repository fs.FS, page string) ([]Example, error) {
	text, err := fs.ReadFile(repository, path.Clean(page))
	if err != nil {
		return nil, err
	}
	return parse(page, string(text)), nil
}

var (
	heading  = regexp.MustCompile(`^#+ (.*)$`)
	fence    = regexp.MustCompile("^( *)```([a-z]*)$")
	indented = regexp.MustCompile(`^ {4,}\S`)
	fixes    = regexp.MustCompile(`^\|.*\| fix \|$`)
)

func parse(page, text string) (examples []Example) {
	lines := strings.Split(text, "\n")
	section := ""
	for i := 0; i < len(lines); i++ {
		if m := heading.FindStringSubmatch(lines[i]); m != nil {
			section = m[1]
			continue
		}
		e := Example{Page: page, Section: section}
		from, to := i, i
		if m := fence.FindStringSubmatch(lines[i]); m != nil {
			from, e.Language = i+1, m[2]
			for to = from; to < len(lines) && lines[to] != m[1]+"```"; to++ {
			}
			i = to
		} else if indented.MatchString(lines[i]) && i > 0 && lines[i-1] == "" {
			for to = from; to < len(lines) && (lines[to] == "" || indented.MatchString(lines[to])); to++ {
			}
			i = to - 1
		} else if fixes.MatchString(lines[i]) {
			for i += 2; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
				examples = append(examples, Example{Page: page, Line: i + 1, Language: "fix", Section: section, Text: lines[i]})
			}
			continue
		} else {
			continue
		}
		e.Line, e.Text = from+1, unindent(lines[from:to])
		if e.Language != "text" && e.Language != "mermaid" {
			examples = append(examples, e)
		}
	}
	return examples
}

// unindent removes the indentation of the first line from all lines.
func unindent(lines []string) string {
	lines = slices.Clone(lines)
	indentation := ""
	if len(lines) > 0 {
		indentation = lines[0][:len(lines[0])-len(strings.TrimLeft(lines[0], " "))]
	}
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], indentation)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}
