package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// systemd itself, in a container on the server, runs Caddy by Caddy's own unit and the
// drop-in, installed as docs/installing.md says: as user caddy, shut in as the drop-in
// says, it starts on the kernel data path, serves, reloads and leaves nothing behind.
func TestSystemd(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{Neighbours: 1})
	unit := s.bootSystemd(caddyfile{})
	unit.install()
	before := s.snapshot()
	unit.start()
	if status := s.status(); status.DatapathReason != "" {
		t.Errorf("packets are carried in userspace: %s", status.DatapathReason)
	}
	s.wantService()
	unit.wantBackAfterACrash()
	up := s.snapshot()
	unit.run("systemctl", "reload", "caddy") // by force, of the same
	s.wantSame("after the reload", up)
	s.write("Caddyfile", caddyfile{policy: "lb_policy first b"}.String())
	unit.run("systemctl", "reload", "caddy")
	if got := s.get("http://192.168.1.2/"); got != "b" {
		t.Errorf("after the reload PC1 got %q", got)
	}
	unit.wantUpgrade()
	unit.wantShutIn()
	unit.run("systemctl", "stop", "caddy")
	s.wantSame("after stop", before)
	unit.wantUninterrupted(before)
	s.write("Caddyfile", caddyfile{}.String())
	unit.wantStartTriedAgain()
	s.wantSame("after the starts that failed", before)

	// A segment in a namespace of its own takes the second drop-in, and a namespace
	// that is there before.
	s.write("Caddyfile", caddyfile{a: "netns a\nports tcp/80 tcp/8080"}.String())
	makesIt := examples.Beginning(t, installingPage, "sudo install -m 644 packaging/systemd/caddy.service.d/vnic_netns.conf")
	unit.shell(strings.Replace(makesIt, "sudo systemctl enable", "exit; sudo systemctl enable", 1))
	unit.wantNamespaceMissed()
	unit.shell(makesIt)
	unit.start()
	s.wantService()
	unit.wantServerOfSegment()
	unit.run("systemctl", "stop", "caddy")
	s.wantSame("after the second stop", before)

	unit.goBare()
}

// wantUpgrade upgrades Caddy, as its user: the unit follows to the new process.
func (u *unit) wantUpgrade() {
	u.s.t.Helper()
	before := u.property("caddy", "MainPID")
	said := u.run("caddy", "vnic", "upgrade")
	u.s.waitFor("the old process ends", func() bool {
		_, err := u.try(u.s.t.Context(), "test", "-e", "/proc/"+before)
		return err != nil
	})
	main := u.property("caddy", "MainPID")
	if main == before || said != "Process "+main+" has taken over.\n" {
		u.s.t.Errorf("caddy vnic upgrade says %q, and the unit's main process is %s after %s", said, main, before)
	}
	if state := u.property("caddy", "ActiveState"); state != "active" {
		u.s.t.Errorf("after an upgrade the unit is %s", state)
	}
	if got := u.s.get("http://192.168.1.2/"); got != "b" {
		u.s.t.Errorf("after an upgrade PC1 got %q", got)
	}
}

// wantNamespaceMissed starts Caddy without the namespace of a segment, and makes that
// as the error and the page say.
func (u *unit) wantNamespaceMissed() {
	u.s.t.Helper()
	symptom := examples.SymptomOf(u.s.t, troubleshootingPage, "a network namespace is absent")
	u.run("systemctl", "start", "--no-block", "caddy")
	u.s.waitFor("the journal says that the namespace is absent", func() bool {
		return strings.Contains(u.run("journalctl", "--unit=caddy", "--no-pager"), `the network namespace \"a\" is absent, and cannot be made here (mkdir /run/netns: permission denied): make it first (ip netns add a)`)
	})
	if seen := u.shell(symptom.Look[0]); seen != "" {
		u.s.t.Errorf("%s shows %q", symptom.Look[0], seen)
	}
	u.shell(symptom.Fix[0])
	u.s.waitFor("Caddy runs", func() bool { return configInForce(u.s) })
	u.s.wantService()
	u.run("systemctl", "stop", "caddy")
	u.run("ip", "netns", "delete", "a")
}

// wantServerOfSegment runs nginx in the segment's namespace as docs/installing.md says. It serves
// by the VNIC as a user of its own, within its limits, and a command sees what it sees.
func (u *unit) wantServerOfSegment() {
	u.s.t.Helper()
	const name = "vnic-segment@a.service"
	u.shell(examples.Beginning(u.s.t, installingPage, "sudo install -m 644 packaging/systemd/vnic-segment@.service"))
	if said := u.run("systemd-analyze", "verify", "--man=no", name); said != "" {
		u.s.t.Errorf("systemd-analyze verify: %s", said)
	}
	u.s.waitFor("nginx serves", func() bool {
		page, err := fetch(u.s.PC1.HTTPClient(), "http://192.168.1.2:8080/")
		return err == nil && page == "nginx in segment a"
	})
	u.s.waitFor("the access is in the journal", func() bool {
		return strings.Contains(u.run("journalctl", "--no-pager", "--unit="+name), "GET / HTTP/1.1")
	})
	process := u.run("cat", "/proc/"+u.property(name, "MainPID")+"/status")
	wantAll(u.s.t, "nginx", process, []string{"Name:\tnginx\n", "CapEff:\t0000000000000400\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"})
	if strings.Contains(process, "Uid:\t0\t") {
		u.s.t.Errorf("nginx runs as root:\n%s", process)
	}
	if limit := u.property(name, "MemoryMax"); limit != "1073741824" {
		u.s.t.Errorf("nginx may have %s bytes of memory", limit)
	}
	inside := u.shell(examples.Beginning(u.s.t, installingPage, "sudo caddy vnic exec a"))
	if !strings.Contains(inside, "192.168.50.1/24") || strings.Contains(inside, "nic0") {
		u.s.t.Errorf("in the segment's namespace there is\n%s", inside)
	}
	u.run("systemctl", "disable", "--now", name)
}

// unit is caddy.service of a systemd that runs in a container.
type unit struct {
	s    *scene
	init string // the process id of its systemd
}

// bootSystemd starts systemd with a Caddyfile and goes on when it runs.
func (s *scene) bootSystemd(config caddyfile) *unit {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	checkout := filepath.Join(s.dir, "checkout")
	for _, command := range [][]string{
		{"mkdir", "-p", filepath.Join(s.dir, "overlay"), checkout},
		{"cp", "../packaging/deb/caddy.service", s.dir},
		{"cp", "-r", "../packaging", checkout},
		{"cp", self, filepath.Join(checkout, "caddy")},
	} {
		s.run(s.Server, command[0], command[1:]...)
	}
	s.write("Caddyfile", config.String())
	cmd := exec.Command("unshare", "--mount", "testdata/systemd/boot.sh", s.dir, "/run/netns/"+s.Server.Namespace())
	process, err := s.Server.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	u := &unit{s: s}
	s.waitFor("the container's systemd", func() bool {
		children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", process.PID()))
		for _, path := range children {
			pids, _ := os.ReadFile(path) // empty until there are some
			for pid := range strings.FieldsSeq(string(pids)) {
				if name, _ := os.ReadFile("/proc/" + pid + "/comm"); string(name) == "systemd\n" {
					u.init = pid
				}
			}
		}
		return u.init != ""
	})
	s.t.Cleanup(func() {
		if s.t.Failed() {
			journal, err := u.try(context.Background(), "journalctl", "--unit=caddy", "--unit=vnic-trial", "--no-pager", "--lines=40")
			s.t.Logf("the units' journal: %v\n%s", err, journal)
		}
	})
	return u
}

// try runs a command in the container.
func (u *unit) try(ctx context.Context, name string, args ...string) ([]byte, error) {
	return u.s.Server.Run(ctx, "nsenter", append([]string{"--target", u.init, "--all", "env", asCaddy, name}, args...)...)
}

// run runs a command in the container, which must succeed.
func (u *unit) run(name string, args ...string) string {
	u.s.t.Helper()
	output, err := u.try(u.s.t.Context(), name, args...)
	if err != nil {
		u.s.t.Fatal(err)
	}
	return string(output)
}

// shell runs the words of a page in the container, as root in a checkout.
func (u *unit) shell(words string) string {
	u.s.t.Helper()
	return u.run("sh", "-euc", "cd /srv/checkout; sudo() { \"$@\"; }\n"+words)
}

func (u *unit) waitForSystemd() {
	u.s.t.Helper()
	u.s.waitFor("the container's systemd listens", func() bool {
		_, err := u.try(u.s.t.Context(), "systemctl", "show", "--property=Version")
		return err == nil
	})
}

// install does as docs/installing.md says, once systemd listens.
func (u *unit) install() {
	u.s.t.Helper()
	u.waitForSystemd()
	u.shell(examples.Beginning(u.s.t, "docs/installing.md", "sudo dpkg-divert "))
}

// start starts Caddy's unit.
func (u *unit) start() {
	u.s.t.Helper()
	u.run("systemctl", "start", "caddy")
	u.s.waitFor("the admin API", func() bool { return configInForce(u.s) })
}

// property is a property of a unit.
func (u *unit) property(unit, name string) string {
	u.s.t.Helper()
	return strings.TrimSpace(u.run("systemctl", "show", "--property="+name, "--value", unit))
}

// wantShutIn checks that the drop-in is in force, word for word as systemd reads
// it, and how exposed systemd says that the service is.
func (u *unit) wantShutIn() {
	u.s.t.Helper()
	if said := u.run("systemd-analyze", "verify", "--man=no", "caddy.service"); said != "" {
		u.s.t.Errorf("systemd-analyze verify: %s", said)
	}
	u.run("systemd-analyze", "security", "--no-pager", fmt.Sprintf("--threshold=%d", exposure), "caddy.service")
	wantAll(u.s.t, "the unit", u.shell(examples.Inline(u.s.t, troubleshootingPage, "systemctl cat ")), []string{"/etc/systemd/system/caddy.service.d/vnic.conf", "AmbientCapabilities="})
	pid := u.property("caddy", "MainPID")
	wantAll(u.s.t, "Caddy's process", u.run("cat", "/proc/"+pid+"/status"), []string{
		"Name:\tcaddy\n", "CapEff:\t000000c000003400\n", "CapBnd:\t000000c000003400\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n",
	})
	uid := strings.TrimSpace(u.run("id", "--user", "caddy"))
	wantAll(u.s.t, "Caddy's process", u.run("cat", "/proc/"+pid+"/status"), []string{"Uid:\t" + strings.Repeat(uid+"\t", 3) + uid + "\n"})
	for path, writable := range map[string]bool{"/": false, "/proc/sys": false, "/proc/sys/net": true, "/var/lib/caddy": true, "/home": false} {
		flags := u.run("nsenter", "--target", pid, "--mount", "findmnt", "--noheadings", "--output=OPTIONS", "--target", path)
		if got := strings.HasPrefix(flags, "rw"); got != writable {
			u.s.t.Errorf("%s is mounted %swritable: %v, want %v", path, flags, got, writable)
		}
	}
}

// exposure is what `systemd-analyze security` may say, in tenths: without the
// drop-in's restrictions it says 67. What is left is the capabilities, the kinds of
// sockets, and the host's network.
const exposure = 30

// configInForce tells whether the admin API answers for a configuration.
func configInForce(s *scene) bool {
	config, err := fetch(s.Server.HTTPClient(), "http://localhost:2019/config/")
	return err == nil && strings.TrimSpace(config) != "null"
}
