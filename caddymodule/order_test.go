package caddymodule

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// order lists the internal packages. Each may import only those before it.
var order = []string{"tested", "caddyfile", "listenaddr", "journal", "metrics", "process", "api", "dashboard", "command", "http1", "leanproxy", "testsite"}

func TestOrderOfPackages(t *testing.T) {
	const prefix = "github.com/caddy-vnic/caddy-vnic/caddymodule"
	files, err := filepath.Glob("internal/*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no files: ", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		at := slices.Index(order, filepath.Base(filepath.Dir(file)))
		if at < 0 {
			t.Errorf("%s: the order lacks this package", file)
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if imported, ours := strings.CutPrefix(path, prefix); ours && !slices.Contains(order[:at], strings.TrimPrefix(imported, "/internal/")) {
				t.Errorf("%s imports %s, which comes later", file, path)
			}
		}
	}
}
