package tested

import (
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// TestVersionsAreThoseOfGoMod checks that the versions are those that go.mod requires.
func TestVersionsAreThoseOfGoMod(t *testing.T) {
	gomod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		`(?m)^\t` + regexp.QuoteMeta(caddyModule) + ` (\S+)$`: Caddy,
		`(?m)^go (\d+\.\d+)`: strings.TrimPrefix(Go, "go"),
	} {
		if m := regexp.MustCompile(pattern).FindSubmatch(gomod); m == nil || string(m[1]) != want {
			t.Errorf("go.mod has %q, want %s", m, want)
		}
	}
}

// TestBinariesOfTests checks that a test binary counts as tested. It lists no dependencies, and
// go.mod chooses its Caddy.
func TestBinariesOfTests(t *testing.T) {
	if err := Build(); err != nil {
		t.Error(err)
	}
	other := &debug.BuildInfo{GoVersion: Go, Main: debug.Module{Path: "example.com/other"}}
	if err := check(other); err == nil {
		t.Error("a test binary of another module can have any Caddy")
	}
	replaced := &debug.BuildInfo{GoVersion: Go, Main: debug.Module{Path: ownModule}, Deps: []*debug.Module{{Path: caddyModule, Version: "v2.12.0"}}}
	if err := check(replaced); err == nil {
		t.Error("this module is built with another Caddy")
	}
}

// TestVersionsAreDocumented checks that the page for administrators names the same versions.
func TestVersionsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/groups.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "Caddy " + strings.TrimPrefix(Caddy, "v") + " and Go " + strings.TrimPrefix(Go, "go"); !strings.Contains(string(page), want) {
		t.Errorf("the page does not name %s", want)
	}
}

func TestOtherVersions(t *testing.T) {
	caddy := func(version string) *debug.Module { return &debug.Module{Path: caddyModule, Version: version} }
	replaced := func(path, version string) *debug.Module {
		return &debug.Module{Path: caddyModule, Version: Caddy, Replace: &debug.Module{Path: path, Version: version}}
	}
	for _, test := range []struct {
		name         string
		caddy        *debug.Module
		golang, want string
	}{
		{"tested", caddy(Caddy), Go + ".3", ""},
		{"first release of Go", caddy(Caddy), Go, ""},
		{"replaced by the same", replaced(caddyModule, Caddy), Go + ".3", ""},
		{"older Caddy", caddy("v2.11.8"), Go + ".3", "Caddy v2.11.8, "},
		{"newer Caddy", caddy("v2.12.0"), Go + ".3", "Caddy v2.12.0, "},
		{"prerelease", caddy(Caddy + "-0.20260101000000-0123456789ab"), Go, "Caddy " + Caddy + "-0."},
		{"replaced by another", replaced(caddyModule, "v2.11.8"), Go, "Caddy v2.11.8, "},
		{"fork", replaced("example.com/caddy", Caddy), Go, "Caddy replaced by example.com/caddy"},
		{"directory", replaced("../caddy", ""), Go, "Caddy replaced by ../caddy"},
		{"no build information", &debug.Module{Path: "example.com/other"}, "", "Caddy of an unknown version"},
		{"newer Go", caddy(Caddy), "go1.27.0", "built with go1.27.0, "},
		{"another Go that begins alike", caddy(Caddy), Go + "0", "built with " + Go + "0, "},
	} {
		err := check(&debug.BuildInfo{GoVersion: test.golang, Deps: []*debug.Module{{Path: "example.com/first"}, test.caddy}})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: the error is %v, want %q", test.name, err, test.want)
		}
	}
}
