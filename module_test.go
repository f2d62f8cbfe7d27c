package caddyvnic_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	caddyvnic "github.com/caddy-vnic/caddy-vnic"
	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

const modulePath = "github.com/caddy-vnic/caddy-vnic"

// TestCustomBuild makes Caddy with this module as `xcaddy build --with
// github.com/caddy-vnic/caddy-vnic` does: from a module of its own, without cgo.
func TestCustomBuild(t *testing.T) {
	dir := freshModule(t)
	for _, page := range []string{"README.md", "docs/installing.md"} {
		if got, want := examples.Beginning(t, page, "xcaddy "), "xcaddy build --with "+modulePath+"\n"; got != want {
			t.Errorf("%s says %q, want %q", page, got, want)
		}
	}
	binary := filepath.Join(dir, "custom-caddy")
	command(t, dir, []string{"CGO_ENABLED=0"}, "go", "build", "-buildvcs=false", "-o", binary, ".")

	modules := strings.Fields(command(t, dir, nil, binary, "list-modules"))
	for _, want := range []string{"vnic", "admin.api.vnic", "http.handlers.vnic_proxy", "http.handlers.file_server"} {
		if !slices.Contains(modules, want) {
			t.Errorf("list-modules does not show %s", want)
		}
	}
	if help := strings.Fields(command(t, dir, nil, binary, "help", "vnic")); !slices.Contains(help, "lab") {
		t.Error("caddy help vnic does not show the lab command")
	}

	example := filepath.Join(dir, "Caddyfile")
	writeFile(t, example, caddyvnic.CaddyfileExample)
	command(t, dir, nil, binary, "validate", "--config", example)
}

// TestOtherSystemsCompile compiles everything where it cannot run: there it says
// at Start that it needs Linux.
func TestOtherSystemsCompile(t *testing.T) {
	for _, goos := range []string{"darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			// Nobody runs the result, so the compiler need not optimize it.
			command(t, ".", []string{"GOOS=" + goos, "CGO_ENABLED=0"}, "go", "build", "-buildvcs=false", "-gcflags=all=-N -l", "./...")
		})
	}
}

// TestCaddyfileExample adapts the example as it comes: a newcomer sees no warning.
func TestCaddyfileExample(t *testing.T) {
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(
		[]byte(caddyvnic.CaddyfileExample), map[string]any{"filename": "Caddyfile.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range warnings {
		t.Error(warning)
	}
	var config struct {
		Apps struct {
			VNIC struct {
				Segments map[string]struct{ Addresses []netip.Prefix }
				Bridges  map[string]struct {
					NIC       string
					Addresses []netip.Prefix
					Gateways  []netip.Addr
				}
			}
			HTTP struct {
				Servers map[string]struct{ Listen []string }
			}
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if n := len(config.Apps.VNIC.Segments); n != 3 {
		t.Errorf("%d segments, want 3", n)
	}
	lan := config.Apps.VNIC.Bridges["lan"]
	if lan.NIC != "eth1" {
		t.Errorf("NIC %q, want the default eth1", lan.NIC)
	}
	families := map[string][]netip.Addr{"bridge lan": addrs(lan.Addresses), "gateways": lan.Gateways}
	for name, segment := range config.Apps.VNIC.Segments {
		families["segment "+name] = addrs(segment.Addresses)
	}
	for name, addresses := range families {
		if len(addresses) != 2 || !addresses[0].Is4() || !addresses[1].Is6() {
			t.Errorf("%s: %v, want one address of each family", name, addresses)
		}
	}
	var listen []string
	for _, server := range config.Apps.HTTP.Servers {
		listen = append(listen, server.Listen...)
	}
	slices.Sort(listen)
	if want := []string{"vnic/a:80", "vnic/b:80", "vnic/front:443"}; !slices.Equal(listen, want) {
		t.Errorf("servers listen on %q, want %q", listen, want)
	}
}

func addrs(prefixes []netip.Prefix) (all []netip.Addr) {
	for _, p := range prefixes {
		all = append(all, p.Addr())
	}
	return all
}

// ground is what most packages of the data plane stand on.
var ground = []string{"vnicbridge/config", "vnicbridge/internal/packet", "vnicbridge/internal/lockorder"}

// mayImport holds the order of this module's packages. A package may import those
// that stand beside its path, or beside the longest beginning of its path, and those
// below them.
var mayImport = map[string][]string{
	".":                    {"caddymodule"},
	"cmd":                  {".", "cmd/internal", "integration/examples"},
	"integration":          {}, // its tests import what they need
	"integration/bench":    {"integration/gauge", "integration/netlab", "integration/paper", "vnicbridge"},
	"integration/examples": {},
	"integration/gauge":    {},
	"integration/netlab":   {},
	"integration/paper":    {"integration/netlab"},
	"sites":                {"vnicbridge"},

	// Caddy's side. A new package below needs an entry of its own.
	"caddymodule":                     {"caddymodule", "sites", "vnicbridge"},
	"caddymodule/internal":            {},
	"caddymodule/internal/caddyfile":  {"vnicbridge"},
	"caddymodule/internal/listenaddr": {"vnicbridge"},
	"caddymodule/internal/metrics":    {"vnicbridge"},
	"caddymodule/internal/process":    {"caddymodule/internal/journal", "caddymodule/internal/upgrade", "sites", "vnicbridge"},
	"caddymodule/internal/upgrade":    {"caddymodule/internal/fdstore", "sites", "vnicbridge"},
	"caddymodule/internal/fdstore":    {"vnicbridge/succession"},
	"caddymodule/internal/api":        {"caddymodule/internal/journal", "caddymodule/internal/version", "sites", "vnicbridge"},
	"caddymodule/internal/endpoint":   {"caddymodule/internal/api"},
	"caddymodule/internal/rolesocket": {"caddymodule/internal/api", "caddymodule/internal/journal", "vnicbridge"},
	"caddymodule/internal/dashboard":  {"caddymodule/internal/api", "caddymodule/internal/endpoint"},
	"caddymodule/internal/command": {"caddymodule/internal/api", "caddymodule/internal/endpoint", "caddymodule/internal/rolesocket", "caddymodule/internal/upgrade", "caddymodule/internal/dashboard", "caddymodule/internal/listenaddr",
		"caddymodule/internal/version", "integration/paper", "vnicbridge"},
	"caddymodule/internal/http1":     {"sites"},
	"caddymodule/internal/leanproxy": {"caddymodule/internal/http1", "sites"},
	"caddymodule/internal/testsite":  {"sites", "vnicbridge"},

	// The data plane, from the ground up. A new package below internal needs an entry of its own.
	"vnicbridge/internal":           {},
	"vnicbridge/config":             {},
	"vnicbridge/pcapfilter":         {},
	"vnicbridge/internal/bpf":       {},
	"vnicbridge/internal/elector":   {},
	"vnicbridge/internal/lockorder": {},
	"vnicbridge/internal/loglimit":  {"vnicbridge/internal/lockorder"},
	"vnicbridge/internal/packet":    {"vnicbridge/config"},
	"vnicbridge/internal/iface":     {"vnicbridge/config", "vnicbridge/internal/packet"},
	"vnicbridge/internal/link":      append(ground, "vnicbridge/internal/iface"),
	"vnicbridge/internal/names":     {},
	"vnicbridge/internal/rules":     append(ground, "vnicbridge/internal/iface", "vnicbridge/internal/names"),
	"vnicbridge/internal/flow":      append(ground, "vnicbridge/internal/iface", "vnicbridge/internal/bpf"),
	"vnicbridge/internal/host":      append(ground, "vnicbridge/internal/iface", "vnicbridge/internal/bpf", "vnicbridge/internal/link", "vnicbridge/succession"),
	"vnicbridge/internal/health":    append(ground, "vnicbridge/internal/iface"),
	"vnicbridge/internal/userspace": append(ground, "vnicbridge/internal/iface", "vnicbridge/internal/names", "vnicbridge/internal/flow",
		"vnicbridge/internal/rules"),
	"vnicbridge/internal/kernel": append(ground, "vnicbridge/internal/iface", "vnicbridge/internal/flow", "vnicbridge/internal/rules",
		"vnicbridge/internal/bpf", "vnicbridge/internal/host", "vnicbridge/succession"),
	"vnicbridge/flowlist": append(ground, "vnicbridge/internal/iface", "vnicbridge/internal/flow"),
	"vnicbridge/capture": append(ground, "vnicbridge/internal/iface", "vnicbridge/internal/flow", "vnicbridge/internal/bpf",
		"vnicbridge/internal/host", "vnicbridge/internal/kernel", "vnicbridge/pcapfilter"),
	"vnicbridge/checkup":    {"vnicbridge/config", "vnicbridge/internal/host", "vnicbridge/internal/kernel"},
	"vnicbridge":            {"vnicbridge/capture", "vnicbridge/config", "vnicbridge/flowlist", "vnicbridge/internal", "vnicbridge/succession"},
	"vnicbridge/succession": {},
}

// onlyTests are packages that nothing but tests imports.
var onlyTests = []string{"caddymodule/internal/testsite", "integration/adminclient"}

// TestImports holds each package to mayImport, and the product to import no package
// of tests.
func TestImports(t *testing.T) {
	const format = `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`
	var packages string
	for _, goos := range []string{"linux", "darwin", "windows"} {
		packages += command(t, ".", []string{"GOOS=" + goos, "CGO_ENABLED=0"}, "go", "list", "-f", format, "./...")
	}
	for line := range strings.Lines(packages) {
		paths := strings.Fields(line)
		importer := inModule(paths[0])
		allowed := mayImport[longestBeginning(importer)]
		for _, path := range paths[1:] {
			imported := inModule(path)
			if imported == "" {
				continue
			}
			if slices.Contains(onlyTests, imported) || !slices.ContainsFunc(allowed, func(beginning string) bool { return isBelow(imported, beginning) }) {
				t.Errorf("%s imports %s", importer, imported)
			}
		}
	}
}

// inModule is a package's path in this module: "." for the root package, "" for a
// package of another module.
func inModule(path string) string {
	if path == modulePath {
		return "."
	}
	rest, found := strings.CutPrefix(path, modulePath+"/")
	if !found {
		return ""
	}
	return rest
}

// isBelow tells whether a package is another one, or in a directory below it.
func isBelow(path, other string) bool {
	return path == other || strings.HasPrefix(path, other+"/")
}

// longestBeginning is the entry of mayImport for a package, "" if there is none.
func longestBeginning(path string) (longest string) {
	for entry := range mayImport {
		if isBelow(path, entry) && len(entry) > len(longest) {
			longest = entry
		}
	}
	return longest
}

// freshModule writes the module that xcaddy would: Caddy's main function with
// the plugins imported. It takes the versions of this module's go.mod, so that
// the build needs nothing that the tests have not downloaded already.
func freshModule(t *testing.T) string {
	t.Helper()
	checkout, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	gomod := strings.Replace(readFile(t, "go.mod"), "module "+modulePath, "module caddy", 1)
	writeFile(t, filepath.Join(dir, "go.mod"), gomod+"\nrequire "+modulePath+" v0.0.0\n\nreplace "+modulePath+" => "+checkout+"\n")
	writeFile(t, filepath.Join(dir, "go.sum"), readFile(t, "go.sum"))
	writeFile(t, filepath.Join(dir, "main.go"), `package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "`+modulePath+`"
)

func main() { caddycmd.Main() }
`)
	return dir
}

// command runs a program to its end and returns its standard output.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	return stdout.String()
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
