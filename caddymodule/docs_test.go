package caddymodule

import (
	"errors"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/command"
	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

const reference = "../docs/caddyfile.md"

// TestExamples adapts every Caddyfile of the documentation.
func TestExamples(t *testing.T) {
	t.Setenv("VNIC_KEY", "00112233445566778899aabbccddeeff")
	t.Setenv("VNIC_ALIASES", "192.168.60.2-192.168.60.127")
	all, err := examples.All(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Language != "caddyfile" {
			continue
		}
		if _, err := adapt(e.Runs(t)); err != nil {
			t.Errorf("%s: %v\n%s", e, err, e.Text)
		}
	}
	for _, page := range []string{reference, "../docs/installing.md", "../docs/policies.md", "../docs/groups.md", "../README.md"} {
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

// TestDocumentedCommands checks that every command of ours on a page exists and has the
// page's flags. In an example the arguments must be valid too.
func TestDocumentedCommands(t *testing.T) {
	shown := regexp.MustCompile("(?m)(?:`|^ {4}(.*[ /])?|&& )caddy vnic ([^`\\n#|&]+)")
	n := 0
	for _, page := range pages(t) {
		for _, m := range shown.FindAllStringSubmatch(read(t, page), -1) {
			line := regexp.MustCompile(`\[[^\]]*\]`).ReplaceAllString(m[2], "") // optional parts
			vnic := &cobra.Command{Use: "vnic"}
			command.Add(vnic, "")
			cmd, rest, err := vnic.Find(shellWords.FindAllString(line, -1))
			if err == nil && cmd == vnic {
				err = errors.New("there is no such command")
			}
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if example := !strings.HasPrefix(m[0], "`"); err == nil && example {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: caddy vnic %s: %v", page, m[2], err)
			}
			n++
		}
	}
	if n < 20 {
		t.Errorf("only %d commands are found", n)
	}
}

// shellWords matches words as a shell splits them, with their quotes.
var shellWords = regexp.MustCompile(`'[^']*'|\S+`)

// TestLinks follows the links between the pages, to their headings, and to files of the
// repository.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if m[2] != "" && !slices.Contains(anchors(read(t, target)), m[2]) {
				t.Errorf("%s links to #%s of %s, which has no such heading", page, m[2], target)
			}
		}
	}
}

// TestDecisions checks that each decision has all its parts and is in the index.
func TestDecisions(t *testing.T) {
	records, err := filepath.Glob("../docs/decisions/[0-9]*.md")
	if err != nil || len(records) == 0 {
		t.Fatal("no records: ", err)
	}
	index := read(t, "../docs/decisions/README.md")
	for _, record := range records {
		if !strings.Contains(index, "("+filepath.Base(record)+")") {
			t.Errorf("the index lacks %s", record)
		}
		text := read(t, record)
		for _, part := range []string{"\nDate: 20", "\n## Context\n", "\n## Decision\n", "\n## The alternative that lost\n"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q", record, strings.TrimSpace(part))
			}
		}
	}
}

// anchors returns the headings of a page, in the form of GitHub's links.
func anchors(page string) (anchors []string) {
	for _, m := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(html.UnescapeString(m[1])), "")
		anchors = append(anchors, strings.ReplaceAll(text, " ", "-"))
	}
	return anchors
}

// pages returns the pages of the documentation.
func pages(t *testing.T) []string {
	t.Helper()
	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal("no pages: ", pattern, err)
		}
		pages = append(pages, found...)
	}
	return pages
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
