package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// An ordinary user runs Caddy by the capabilities that README.md and
// docs/installing.md give to the binary, as they stand there.
func TestSetcap(t *testing.T) {
	t.Parallel()
	t.Run("README.md", func(t *testing.T) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		s.nicIsEth1()
		s.ip(s.Server, "link set eth1 down") // it is one of the lines that sets it up
		symptom := examples.SymptomOf(t, troubleshootingPage, "CAP_NET_ADMIN or CAP_NET_RAW is missing")
		commands := examples.Beginning(t, "README.md", "sudo setcap ")
		if !strings.Contains(commands, "sudo "+symptom.Fix[0]+"\n") {
			t.Errorf("the fix is %s, and README.md has\n%s", symptom.Fix[0], commands)
		}
		commands = strings.Replace(commands, "./caddy run", "exec ./caddy run", 1)
		commands = regexp.MustCompile(`(?m)^(exec )?\./caddy`).ReplaceAllString(commands, "${1}"+asNobody+" ./caddy")
		without := "if " + asNobody + " ./caddy run --config Caddyfile >../without 2>&1; then exit 1; fi; " + symptom.Look[0] + " >>../without\n"
		s.startBySetcap(caddyfilesOf(t, "README.md")[0], without+commands)
		s.wantOrdinaryUser("This is segment a.")
		s.vnic("switch", "lan", "b")
		if got := s.get("http://192.168.1.2/"); got != "This is segment b." {
			t.Errorf("after the switch of README.md, PC1 got %q", got)
		}
		said := s.run(s.Server, "cat", filepath.Join(s.dir, "without"))
		if !strings.Contains(said, "CAP_NET_ADMIN is missing") || strings.Contains(said, "./caddy cap_") {
			t.Errorf("without the capabilities there is\n%s", said)
		}
	})
	t.Run("installing.md", func(t *testing.T) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		s.nicIsEth1()
		install := examples.Beginning(t, installingPage, "sudo install -m 755 caddy /usr/local/bin/")
		s.startBySetcap(caddyfile{nic: "eth1"}.String(), install+"exec "+asNobody+` /usr/local/bin/caddy "$@"`)
		s.wantOrdinaryUser("a")
	})
}

// asNobody runs a command as an ordinary user.
const asNobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all"

// startBySetcap starts Caddy by the words of a page, in a directory with caddy and its
// Caddyfile, where /usr/local/bin is empty.
func (s *scene) startBySetcap(config, words string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	here := filepath.Join(s.dir, "here")
	s.run(s.Server, "mkdir", here)
	s.run(s.Server, "chmod", "a+rx", filepath.Dir(s.dir), s.dir)
	s.run(s.Server, "chown", "-R", "65534:65534", s.dir)
	script := s.write("script.sh", fmt.Sprintf(`
for directory in /dev/net /usr/local/bin %[1]s; do mount -t tmpfs -o mode=755 none $directory; done
mknod -m 666 /dev/net/tun c 10 200 # its usual mode
cd %[1]s
cp %[2]s caddy
cp ../Caddyfile .
sudo() { "$@"; }
%[3]s
`, here, self, words))
	program := s.writeProgram("caddy.sh", "#!/bin/sh\nexec unshare --mount sh -eu "+script+" \"$@\"\n")
	if err := s.tryStartBy(program, config); err != nil {
		s.t.Fatal(err)
	}
}

// wantOrdinaryUser checks that Caddy serves a page by the kernel data path, as an ordinary user
// with the capabilities of the drop-in.
func (s *scene) wantOrdinaryUser(page string) {
	s.t.Helper()
	if status := s.status(); status.DatapathReason != "" {
		s.t.Errorf("packets are carried in userspace: %s", status.DatapathReason)
	}
	if got := s.get("http://192.168.1.2/"); got != page {
		s.t.Errorf("PC1 got %q", got)
	}
	process, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.caddy.Process().PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	wantAll(s.t, "Caddy's process", string(process), []string{"Name:\tcaddy\n", "Uid:\t65534\t65534\t65534\t65534\n", "CapEff:\t000000c000003400\n"})
}
