package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// shellOfAPage runs one command after another, and knows what each prints: words that a page has
// as a comment behind it, or anything. What a page promises may take a moment.
const shellOfAPage = `
mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up
n=0
try() {
	for _ in $(seq 100); do
		said=said.$((n += 1)) # Caddy goes on to write to its own
		eval "$1" >$said 2>&1
		rc=$?
		if [ -n "$2" ]; then grep -qF -- "$2" $said && return; else [ $rc = 0 ] && return; fi
		[ -n "$2" ] || break
		sleep 0.2
	done
	echo "$1: exit $rc, want: $2"; tail -n 20 $(ls -v said.* | head -n 12) $said
	exit 1
}
`

// The commands of the quick start and of the tutorial, one after the other, do what the pages say.
func TestTutorial(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"docs/quick-start.md", "docs/tutorial.md"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			script, dir := shellOfAPage, t.TempDir()
			for _, e := range examples.On(t, page) {
				text := e.Runs(t)
				if e.Language == "caddyfile" {
					if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					continue
				}
				for line := range strings.Lines(text) {
					command, prints, _ := strings.Cut(strings.TrimSpace(line), "    # ")
					script += fmt.Sprintf("try %s %s\n", shellQuoted(command), shellQuoted(prints))
				}
			}
			self, err := os.Executable()
			if err == nil {
				err = os.Symlink(self, filepath.Join(dir, "caddy"))
			}
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), asCaddy, "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
}

// shellQuoted is a text as one word of a shell.
func shellQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
