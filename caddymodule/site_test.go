package caddymodule

import (
	"html"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	linkInHTML = regexp.MustCompile(`(?:href|src)="([^"#:]*)(?:#([^"]*))?"`)
	idInHTML   = regexp.MustCompile(`\sid="([^"]*)"`)
)

// TestSite makes the site, without a warning, and follows each link in it. Each page that is not a
// decision is in the navigation and can be searched.
func TestSite(t *testing.T) {
	site := t.TempDir()
	made, err := exec.CommandContext(t.Context(), "mkdocs", "build", "--quiet", "--strict",
		"--config-file", "../packaging/site/mkdocs.yml", "--site-dir", site).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, made)
	}
	ids := make(map[string]map[string]bool) // of each page
	err = fs.WalkDir(os.DirFS(site), ".", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == "index.html" {
			ids[path] = make(map[string]bool)
			for _, id := range idInHTML.FindAllStringSubmatch(read(t, filepath.Join(site, path)), -1) {
				ids[path][html.UnescapeString(id[1])] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for page := range ids {
		for _, link := range linkInHTML.FindAllStringSubmatch(read(t, filepath.Join(site, page)), -1) {
			target := filepath.Join(filepath.Dir(page), link[1])
			if link[1] == "" {
				target = page
			} else if info, err := os.Stat(filepath.Join(site, target)); err != nil {
				t.Errorf("%s links to %s: %v", page, link[1], err)
				continue
			} else if info.IsDir() {
				target = filepath.Join(target, "index.html")
			}
			if anchor := html.UnescapeString(link[2]); anchor != "" && !ids[target][anchor] {
				t.Errorf("%s links to #%s of %s, which has no such heading", page, anchor, target)
			}
		}
	}
	navigation, _, _ := strings.Cut(read(t, filepath.Join(site, "index.html")), "<article")
	index := read(t, filepath.Join(site, "search", "search_index.json"))
	for _, page := range pages(t) {
		if strings.HasPrefix(page, "../docs/decisions/0") {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(page, "../"), "docs/"), "README.md")
		name = strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(name, ".md"), "/")+"/", "/")
		if name != "" && !strings.Contains(navigation, `href="`+name+`"`) {
			t.Errorf("the navigation lacks %s", name)
		}
		if !strings.Contains(index, `"location":"`+name+`"`) {
			t.Errorf("the search does not find %s", name)
		}
	}
}
