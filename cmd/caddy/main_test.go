package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const asCaddy = "CADDY_VNIC_TEST_AS_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestCommandsThatRebuild checks that the commands that would replace this binary refuse, and
// say what to do. All other commands, and help, are Caddy's own.
func TestCommandsThatRebuild(t *testing.T) {
	for _, tt := range []struct {
		args, says string
		fails      bool
	}{
		{"upgrade", "caddy upgrade replaces only what xcaddy has built", true},
		{"upgrade --keep-backup", "run make build", true},
		{"add-package github.com/caddy-dns/cloudflare", "caddy add-package replaces", true},
		{"remove-package github.com/caddy-vnic/caddy-vnic", "caddy remove-package replaces", true},
		{"upgrade --help", "--keep-backup", false},
		{"help upgrade", "--keep-backup", false},
		{"list-modules --versions --packages", "vnic", false},
		{"vnic --help", "capture", false},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], strings.Fields(tt.args)...)
		cmd.Env = append(os.Environ(), asCaddy+"=1", "HTTPS_PROXY=http://127.0.0.1:1", "HOME="+t.TempDir())
		output, err := cmd.CombinedOutput()
		if (err != nil) != tt.fails || !strings.Contains(string(output), tt.says) || strings.Contains(string(output), "panic:") {
			t.Errorf("caddy %s: %v, want %q:\n%s", tt.args, err, tt.says, output)
		}
	}
}
