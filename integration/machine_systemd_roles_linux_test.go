package integration_test

import (
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const departmentsPage = "docs/departments.md"

// systemd itself runs a role by its unit, set up as docs/departments.md says: a member of the
// department's group administrates the segment, another user does not, and the unit has no privilege.
func TestDepartmentsPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	u := s.bootSystemd(caddyfile{})
	s.write("Caddyfile", strings.ReplaceAll(caddyfilesOf(t, departmentsPage)[0], "eth1", "nic0"))
	u.install()
	for _, user := range []string{"alice", "bob"} {
		u.run("useradd", "--shell", "/bin/sh", user)
	}
	u.run("systemctl", "start", "caddy")
	const role = "vnic-role@a.service"
	for _, e := range examples.On(t, departmentsPage) {
		if e.Section == "Set it up" && e.Language != "caddyfile" {
			u.shell(e.Runs(t))
		}
	}
	if said := u.run("systemd-analyze", "verify", "--man=no", role); said != "" {
		t.Errorf("systemd-analyze verify: %s", said)
	}
	const socket = "/run/vnic-role-a/admin.sock"
	s.waitFor("the role's socket", func() bool {
		_, err := u.try(t.Context(), "test", "-S", socket)
		return err == nil
	})
	as := func(user, words string) (string, error) {
		out, err := u.try(t.Context(), "runuser", "--user", user, "--", "sh", "-euc", words)
		return string(out), err
	}
	for _, e := range examples.On(t, departmentsPage) {
		if e.Section != "Use it" {
			continue
		}
		words := e.Runs(t)
		if strings.HasPrefix(words, "journalctl") {
			if log := u.shell(words); !strings.Contains(log, "path=/vnic/segments/a/drain") || !strings.Contains(log, "by=\"uid ") {
				t.Errorf("the journal does not say who has drained the segment:\n%s", log)
			}
			continue
		}
		if said, err := as("alice", words); err != nil || !strings.Contains(said, "This is of segment a alone.") {
			t.Errorf("a member of the group gets:\n%s%v", said, err)
		}
	}
	if said, err := as("bob", "caddy vnic status --address unix/"+socket); err == nil {
		t.Errorf("who is no member gets:\n%s", said)
	}
	for _, user := range []string{"alice", "bob"} {
		if said, err := as(user, "caddy vnic status --address unix//run/caddy/admin.sock"); err == nil {
			t.Errorf("%s gets at Caddy's own socket:\n%s", user, said)
		}
	}
	process := u.run("cat", "/proc/"+u.property(role, "MainPID")+"/status")
	wantAll(t, "the role", process, []string{"CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"})
	if strings.Contains(process, "Uid:\t0\t") {
		t.Errorf("the role runs as root:\n%s", process)
	}
	u.run("systemctl", "restart", "caddy")
	s.waitFor("the role works after a restart of Caddy", func() bool {
		_, err := as("alice", "caddy vnic status --address unix/"+socket)
		return err == nil
	})
	u.run("systemctl", "stop", role)

	by := examples.Beginning(t, departmentsPage, "caddy vnic serve-role")
	u.run("systemd-run", "--quiet", "--unit", "by-hand", "-p", "User=caddy", "-p", "RuntimeDirectory=by-hand", "sh", "-c", "exec "+strings.ReplaceAll(by, "/run/role-a", "/run/by-hand/role-a"))
	s.waitFor("a role that was started by hand", func() bool {
		_, err := u.try(t.Context(), "caddy", "vnic", "status", "--address", "unix//run/by-hand/role-a.sock")
		return err == nil
	})
	u.run("systemctl", "stop", "by-hand", "caddy")
}
