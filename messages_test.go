package caddyvnic_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// messagesPage is the index of messages.
const messagesPage = "docs/messages.md"

var (
	listedMessage = regexp.MustCompile("(?m)^\\| `(.+?)` \\| ")
	verb          = regexp.MustCompile(`%[-+#0-9.\[\]]*[a-zA-Z]`)
)

// TestMessages checks that each message of docs/messages.md is one of the program, and that each
// warning and error that it logs is on the page.
func TestMessages(t *testing.T) {
	page, err := os.ReadFile(messagesPage)
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range listedMessage.FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, m[1])
	}
	texts, logged := messagesOf(t, "vnicbridge", "caddymodule", "sites")
	for _, message := range listed {
		if !slices.ContainsFunc(texts, func(text string) bool { return hasParts(text, message) }) {
			t.Errorf("%s has the message %q, which the program no longer has", messagesPage, message)
		}
	}
	for _, text := range logged {
		text, _, _ = strings.Cut(text, "`") // the page has none within a message
		if !slices.ContainsFunc(listed, func(message string) bool { return strings.HasPrefix(message, text) }) {
			t.Errorf("%s lacks what the program logs: %q", messagesPage, text)
		}
	}
	if len(listed) < 40 || len(logged) < 30 {
		t.Errorf("%d messages are listed, and %d are logged: the test does not find them", len(listed), len(logged))
	}
}

// hasParts tells whether a text has the parts of a message between its gaps, in order.
func hasParts(text, message string) bool {
	for part := range strings.SplitSeq(message, "…") {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

// messagesOf returns the texts in the program's source, with … for what is filled in, and those that
// are logged as warnings or errors.
func messagesOf(t *testing.T, directories ...string) (texts, logged []string) {
	t.Helper()
	for _, directory := range directories {
		err := filepath.WalkDir(directory, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if text, ok := textOf(n); ok {
						texts = append(texts, text)
					}
				case *ast.CallExpr:
					if text, ok := logMessage(n); ok {
						logged = append(logged, text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts, logged
}

// logMessage returns the beginning of what a call logs as a warning or an error.
func logMessage(call *ast.CallExpr) (text string, ok bool) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || method.Sel.Name != "Warn" && method.Sel.Name != "Error" || len(call.Args) == 0 {
		return "", false
	}
	if on, ok := method.X.(*ast.Ident); ok && (on.Name == "http" || on.Name == "t") {
		return "", false
	}
	message := call.Args[0]
	for {
		sum, ok := message.(*ast.BinaryExpr)
		if !ok {
			break
		}
		message = sum.X
	}
	literal, ok := message.(*ast.BasicLit)
	if !ok {
		return "", false
	}
	return textOf(literal)
}

func textOf(literal *ast.BasicLit) (text string, ok bool) {
	if literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return verb.ReplaceAllString(text, "…"), err == nil
}
