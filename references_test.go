package caddyvnic_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReferences holds comments to the source files that they name: each file exists, and
// declares what a comment says is in it ("name in file", "name of file").
func TestReferences(t *testing.T) {
	all := readSources(t)
	checked := 0
	for path, s := range all {
		for _, comment := range s.comments {
			for _, reference := range references.FindAllStringSubmatch(comment, -1) {
				names, file := reference[1], reference[2]
				if linuxFile.MatchString(file) {
					continue
				}
				found := all.called(file)
				if len(found) == 0 {
					t.Errorf("%s: there is no file %s: %q", path, file, comment)
					continue
				}
				for _, name := range strings.Split(names, ", ") {
					if name == "" {
						continue
					}
					checked++
					if !slices.ContainsFunc(found, func(s source) bool { return s.declares(name) }) {
						t.Errorf("%s: %s does not declare %s: %q", path, file, name, comment)
					}
				}
			}
		}
	}
	if checked == 0 {
		t.Error("no comment names what is in a file: the test finds none")
	}
}

var (
	// references are a file, and what a comment says is in it.
	references = regexp.MustCompile(`(?:^|[\s("])(?:((?:[\w.]+, )*[\w.]+) (?:in|of) )?((?:[\w-]+/)*[\w-]+\.(?:go|c|h))\b`)
	// linuxFile is a file of the Linux kernel.
	linuxFile = regexp.MustCompile(`^(include|net)/`)
)

// source is what TestReferences knows of a source file.
type source struct {
	comments []string // without line breaks
	declares func(name string) bool
}

type sources map[string]source // by path

// called returns the files whose path is, or ends with, a path.
func (all sources) called(path string) (found []source) {
	for p, s := range all {
		if p == path || strings.HasSuffix(p, "/"+path) {
			found = append(found, s)
		}
	}
	return found
}

func readSources(t *testing.T) sources {
	t.Helper()
	all := make(sources)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", "build", "testdata"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".go":
			all[filepath.ToSlash(path)] = goSource(t, path)
		case ".c", ".h":
			all[filepath.ToSlash(path)] = cSource(readFile(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// goSource returns what a Go file declares: functions, types, variables, constants, fields
// and methods. A field or method counts by its own name, and as Type.name.
func goSource(t *testing.T, path string) source {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var s source
	for _, group := range file.Comments {
		s.comments = append(s.comments, unwrapped(group.Text()))
	}
	declared := make(map[string]bool)
	member := func(owner ast.Expr, names ...*ast.Ident) {
		for _, name := range names {
			declared[name.Name] = true
			declared[baseName(owner)+"."+name.Name] = true
		}
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			declared[f.Name.Name] = true
			if f.Recv != nil {
				member(f.Recv.List[0].Type, f.Name)
			}
			continue
		}
		for _, spec := range decl.(*ast.GenDecl).Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					declared[name.Name] = true
				}
			case *ast.TypeSpec:
				declared[spec.Name.Name] = true
				ast.Inspect(spec.Type, func(n ast.Node) bool {
					if field, ok := n.(*ast.Field); ok {
						member(spec.Name, field.Names...)
					}
					return true
				})
			}
		}
	}
	s.declares = func(name string) bool { return declared[name] }
	return s
}

// baseName is the name of a receiver's type.
func baseName(receiver ast.Expr) string {
	switch x := receiver.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.StarExpr:
		return baseName(x.X)
	case *ast.IndexExpr:
		return baseName(x.X)
	case *ast.IndexListExpr:
		return baseName(x.X)
	}
	return ""
}

// cComment is a comment of C: lines that follow each other are one.
var cComment = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*(?:\n[ \t]*//[^\n]*)*`)

// cSource declares macros, types, enumerators, functions and variables.
func cSource(text string) source {
	var s source
	for _, comment := range cComment.FindAllString(text, -1) {
		s.comments = append(s.comments, unwrapped(regexp.MustCompile(`(?m)^\s*//|/?\*+/?`).ReplaceAllString(comment, " ")))
	}
	code := cComment.ReplaceAllString(text, "")
	s.declares = func(name string) bool {
		n := regexp.QuoteMeta(name)
		return regexp.MustCompile(`(?m)` + strings.Join([]string{
			`^\s*#define\s+` + n + `\b`,
			`\b(?:struct|enum|union)\s+` + n + `\s*\{`,
			`^\s+` + n + `\s*[,=]`,                   // an enumerator
			`^[A-Za-z_][\w\s*]*\b` + n + `\s*[([=;]`, // code is indented, declarations are not
		}, "|")).MatchString(code)
	}
	return s
}

// unwrapped is a text on one line.
func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }
