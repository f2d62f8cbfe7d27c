package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const dropIn = "../packaging/systemd/caddy.service.d/vnic.conf"

// As an ordinary user with the capabilities of the systemd drop-in, and no other,
// Caddy starts, serves, reloads by force as the stock unit's ExecReload does, and
// leaves nothing behind.
func TestLeastPrivilege(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		before := s.snapshot()
		first := caddyfile{datapath: datapath, a: "client_ip preserve"}
		s.startAs(unprivileged(t), first)
		s.wantNobody()
		if status := s.status(); string(status.Datapath) != datapath {
			t.Errorf("the data path is %s (%s)", status.Datapath, status.DatapathReason)
		}
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q", got)
		}
		up := s.snapshot()
		s.load(first)
		s.wantSame("after a forced reload of the same", up)
		second := first
		second.policy = "lb_policy first b"
		s.load(second)
		if got := s.get("http://192.168.1.2/"); got != "b" {
			t.Errorf("after the reload PC1 got %q", got)
		}
		s.stop()
		s.wantSame("after stop", before)
	})
}

// An administrator who does not want to give Caddy the capabilities for BPF leaves them out
// of the drop-in.
func TestLeastPrivilegeInUserspace(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.startAs(unprivileged(t, "CAP_BPF", "CAP_PERFMON"), caddyfile{})
	s.wantFallback([]string{"CAP_BPF is missing"})
}

// unprivileged is a command that runs another as an ordinary user with the drop-in's
// capabilities, but for some, where /dev/net/tun has its usual mode.
func unprivileged(t *testing.T, without ...string) string {
	t.Helper()
	unit, err := os.ReadFile(dropIn)
	if err != nil {
		t.Fatal(err)
	}
	sets := regexp.MustCompile(`(?m)^(?:AmbientCapabilities|CapabilityBoundingSet)=(.*)$`).FindAllSubmatch(unit, -1)
	if len(sets) != 2 || string(sets[0][1]) != string(sets[1][1]) {
		t.Fatalf("%s has the capabilities %s, want two equal sets", dropIn, sets)
	}
	caps := "-all"
	for _, name := range strings.Fields(string(sets[0][1])) {
		if slices.Contains(without, name) {
			continue
		}
		caps += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	return fmt.Sprintf("unshare --mount sh -c 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec \"$@\"' sh "+
		"setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=%[1]s --ambient-caps=%[1]s --bounding-set=%[1]s", caps)
}

// startAs starts Caddy by way of a command.
func (s *scene) startAs(wrapper string, config caddyfile) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	// Neither the test's binary nor its directory is open to others.
	binary := filepath.Join(s.dir, "bin", "caddy") // caddy itself is the directory of Caddy's files
	s.run(s.Server, "install", "-D", self, binary)
	s.run(s.Server, "chmod", "a+rx", filepath.Dir(s.dir), s.dir)
	s.run(s.Server, "chown", "-R", "65534:65534", s.dir)
	s.startBinaryBy(wrapper, binary, config)
}

// wantNobody makes sure that Caddy has none of root's privileges.
func (s *scene) wantNobody() {
	s.t.Helper()
	pids := strings.Fields(s.run(s.Server, "ip", "netns", "pids", s.Server.Namespace()))
	for _, pid := range pids {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil || !strings.Contains(string(status), "Name:\tcaddy\n") {
			continue
		}
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "CapEff:\t000000c000003400", "CapBnd:\t000000c000003400"} {
			if !strings.Contains(string(status), want) {
				s.t.Errorf("Caddy's process has not %q:\n%s", want, status)
			}
		}
		return
	}
	s.t.Errorf("no Caddy among the server's processes %s", pids)
}
