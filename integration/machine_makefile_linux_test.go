package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// Every make command that a page shows is of a target that there is. `make lab` and
// `make test` are what CI runs, and the latter runs this.
func TestDocumentedTargets(t *testing.T) {
	commands := map[string]bool{
		examples.Beginning(t, "README.md", "make lab"):                               true,
		strings.TrimPrefix(examples.Beginning(t, "README.md", "sudo env "), "sudo "): true,
	}
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/*/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, span := range examples.Spans(string(text)) {
				if strings.HasPrefix(span, "make ") {
					commands[span] = true
				}
			}
		}
	}
	for command := range commands {
		if output, err := inRepository(nil, "sh", "-euc", strings.Replace(command, "make ", "make -n ", 1)); err != nil {
			t.Errorf("%s: %v: %s", command, err, output)
		}
	}
}

// The patterns of the `go test` commands that the pages show match tests here.
func TestDocumentedRuns(t *testing.T) {
	command := examples.Inline(t, "docs/evidence/separation.md", "go test ./integration ")
	pattern := regexp.MustCompile(`-run '([^']+)' -write$`).FindStringSubmatch(command)
	if pattern == nil {
		t.Fatalf("docs/evidence/separation.md shows %s", command)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.CommandContext(t.Context(), self, "-test.list", pattern[1], "-write").CombinedOutput()
	for name := range strings.SplitSeq(pattern[1], "|") {
		if err != nil || !strings.Contains(string(list), name) {
			t.Errorf("%s: %v: %s", command, err, list)
		}
	}
}

// What keeps the tests and the lab from running says so, as docs/troubleshooting.md
// does.
func TestTestsAndLabSayWhatTheyLack(t *testing.T) {
	t.Run("root", func(t *testing.T) {
		symptom := examples.SymptomOf(t, troubleshootingPage, "says that it needs root")
		is := []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}} // with root's access to the files
		ordinary := &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: is, GidMappings: is}
		output, err := inRepository(ordinary, "make", "test")
		if err == nil || !strings.Contains(output, symptom.Fix[0]) {
			t.Errorf("%v: %s", err, output)
		}
	})
	t.Run("a policy that lets services start", func(t *testing.T) {
		examples.SymptomOf(t, troubleshootingPage, "does not forbid what is installed to start")
		output, err := inRepository(nil, "unshare", "--mount", "sh", "-euc", `
mount -t tmpfs none /mnt
printf '#!/bin/sh\n' >/mnt/policy-rc.d
chmod 755 /mnt/policy-rc.d
mount -t overlay -o lowerdir=/mnt:/usr/sbin none /usr/sbin
exec scripts/need 'this test' no-such-command`)
		if err == nil || !strings.Contains(output, "does not forbid what is installed to start") {
			t.Errorf("%v: %s", err, output)
		}
	})
}

// The package arping has a program of the same name with other options than that of iputils.
// scripts/need does not accept the former and asks for the latter.
func TestNeedTellsTheArpings(t *testing.T) {
	if output, err := inRepository(nil, "scripts/need", "this test", "arping"); err != nil || output != "" {
		t.Errorf("with the arping of the tests: %v: %s", err, output)
	}
	output, err := inRepository(nil, "unshare", "--mount", "sh", "-euc", `
mount -t tmpfs none /mnt
mkdir /mnt/bin /mnt/sbin
printf '#!/bin/sh\nexit 101\n' >/mnt/sbin/policy-rc.d
printf '#!/bin/sh\necho ARPing 2.23, by Thomas Habets\n' >/mnt/bin/arping
cat >/mnt/bin/apt-get <<'EOF'
#!/bin/sh
echo "apt-get $*"
[ "$1" = update ] || echo 'echo arping from iputils' >/mnt/bin/arping
EOF
chmod 755 /mnt/*bin/*
mount -t overlay -o lowerdir=/mnt/sbin:/usr/sbin none /usr/sbin
PATH=/mnt/bin:$PATH scripts/need 'this test' arping`)
	if err != nil || !strings.Contains(output, "missing arping") || !strings.Contains(output, "iputils-arping\n") {
		t.Errorf("with another arping: %v: %s", err, output)
	}
}

// inRepository runs a command in the root of the repository, as from a shell: what make
// tells those that it runs does not reach it.
func inRepository(as *syscall.SysProcAttr, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = ".."
	cmd.SysProcAttr = as
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "MAKE") || strings.HasPrefix(variable, "MFLAGS=")
	})
	output, err := cmd.CombinedOutput()
	return string(output), err
}
