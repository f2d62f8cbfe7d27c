package caddymodule

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const untestedCaddyEnv = "CADDY_VNIC_TEST_UNTESTED_CADDY"

// TestUntestedCaddy checks that a program that was built with another Caddy than these tests
// leaves all requests to reverse_proxy and net/http, and logs that once.
func TestUntestedCaddy(t *testing.T) {
	if os.Getenv(untestedCaddyEnv) == "" {
		t.Setenv(untestedCaddyEnv, buildUntested(t))
	}
	if !inOwnNetwork(t) {
		return
	}
	log := filepath.Join(t.TempDir(), "log")
	config := filepath.Join(t.TempDir(), "Caddyfile")
	g := &groups{log: log}
	if err := os.WriteFile(config, []byte(g.caddyfile()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Getenv(untestedCaddyEnv), "run", "--config", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if !eventually(func() bool { return try(frontAddr+":80") == nil }) {
		t.Fatal("the front does not listen")
	}
	listener, err := net.Listen("tcp", "192.168.60.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(echo)}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	resp, err := http.Get("http://" + frontAddr + "/echo/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if by := resp.Header.Get("X-Path"); resp.StatusCode != http.StatusOK || by != "reverse_proxy" {
		t.Errorf("a plain request is answered %d by %q", resp.StatusCode, by)
	}
	const warning = "reverse_proxy and net/http serve all requests of vnic_proxy"
	g.expectLog(t, warning)
	text, err := os.ReadFile(log)
	if n := strings.Count(string(text), warning); err != nil || n != 1 || !strings.Contains(string(text), "is built with Caddy replaced by ") {
		t.Errorf("it is logged %d times (%v):\n%s", n, err, text)
	}
}

// buildUntested builds Caddy with this module from a copy of Caddy's module, so that the build
// has no version of Caddy. The copy is the one in Go's module cache: nothing is downloaded.
func buildUntested(t *testing.T) string {
	t.Helper()
	run := func(dir, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
		output, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		return strings.TrimSpace(string(output))
	}
	const module, caddyModule = "github.com/caddy-vnic/caddy-vnic", "github.com/caddyserver/caddy/v2"
	root := filepath.Dir(run(".", "go", "env", "GOMOD"))
	caddyDir := run(".", "go", "list", "-m", "-f", "{{.Dir}}", caddyModule)
	dir := t.TempDir()
	gomod := strings.Replace(read(t, filepath.Join(root, "go.mod")), "module "+module, "module caddy", 1) +
		"\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + root + "\n\nreplace " + caddyModule + " => " + caddyDir + "\n"
	for name, text := range map[string]string{
		"go.mod": gomod,
		"go.sum": read(t, filepath.Join(root, "go.sum")),
		"main.go": "package main\n\nimport (\n\tcaddycmd \"" + caddyModule + "/cmd\"\n\t_ \"" + caddyModule + "/modules/standard\"\n\n\t_ \"" + module + "\"\n)\n\n" +
			"func main() { caddycmd.Main() }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(dir, "go", "build", "-buildvcs=false", "-o", "caddy", ".")
	return filepath.Join(dir, "caddy")
}
