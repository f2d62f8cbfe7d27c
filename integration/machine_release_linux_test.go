package integration_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const containersPage = "docs/containers.md"

// What `make release` packs is installed, run, upgraded and removed as the pages say: the deb
// with the real systemd, the image with podman.
func TestRelease(t *testing.T) {
	t.Parallel()
	dist := t.TempDir()
	pack := filepath.Join(t.TempDir(), "release")
	inPackaging(t, "go", "build", "-o", pack, ".")
	for version, only := range map[string]string{"v9.0.0": "deb", "v9.0.1": "deb,image"} {
		binary := filepath.Join(dist, runtime.GOARCH, "caddy")
		if output, err := inRepository(nil, "make", "build", "VERSION="+version, "BIN="+binary); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		said, err := exec.CommandContext(t.Context(), binary, "vnic", "version").Output()
		if err != nil || !strings.HasPrefix(string(said), "caddy-vnic "+version+", Caddy v2.") {
			t.Fatalf("caddy vnic version of %s: %v: %s", version, err, said)
		}
		inPackaging(t, pack, "-version", version, "-dist", dist, "-only", only, runtime.GOARCH)
	}
	t.Run("deb", func(t *testing.T) {
		t.Parallel()
		testDeb(t, dist)
	})
	t.Run("image", func(t *testing.T) {
		t.Parallel()
		testImage(t, filepath.Join(dist, "caddy-vnic_9.0.1_image.tar"))
	})
}

// inPackaging runs a command in the packers' module, which is not this one.
func inPackaging(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = "../packaging/release"
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, output)
	}
}

func testDeb(t *testing.T, dist string) {
	s := newScene(t, paper.NetworkOptions{})
	u := s.bootSystemd(caddyfile{})
	s.run(s.Server, "sh", "-euc", "cp "+dist+"/*.deb "+filepath.Join(s.dir, "checkout"))
	u.waitForSystemd()
	// The machine is as it was before anybody installed Caddy, and no image of containers, where a policy
	// keeps packages from starting services.
	u.run("sh", "-euc", "umount /etc/caddy/Caddyfile; rm -r /etc/caddy /usr/bin/caddy /usr/lib/systemd/system/caddy.service; "+
		"sed -i /^caddy:/d /etc/passwd /etc/group; rm -f /var/lib/man-db/auto-update /usr/sbin/policy-rc.d; systemctl daemon-reload")
	before := s.snapshot()

	const yes = "apt() { command apt --yes \"$@\"; }\n" // to its questions
	install := yes + examples.Beginning(t, installingPage, "sudo apt install ./caddy-vnic_")
	u.shell(strings.Replace(install, "0.1.0_amd64", "9.0.0_"+runtime.GOARCH, 1))
	s.waitFor("Caddy runs", func() bool { return u.property("caddy", "ActiveState") == "active" })
	if enabled := u.property("caddy", "UnitFileState"); enabled != "enabled" {
		t.Errorf("after the installation the unit is %s", enabled)
	}
	u.run("sh", "-euc", "cat >/etc/caddy/Caddyfile <<'END'\n"+caddyfile{}.String()+"END")
	u.run("systemctl", "reload", "caddy")
	s.wantService()
	wantAll(t, "Caddy's process", u.run("cat", "/proc/"+u.property("caddy", "MainPID")+"/status"), []string{"CapEff:\t000000c000003400\n", "NoNewPrivs:\t1\n"})
	wantAll(t, "the package", u.run("dpkg", "--listfiles", "caddy-vnic"), []string{
		"/usr/share/man/man8/caddy-vnic-drain.8.gz", "/usr/share/bash-completion/completions/caddy", "/usr/share/zsh/vendor-completions/_caddy",
		"/usr/share/fish/vendor_completions.d/caddy.fish", "/usr/lib/systemd/system/vnic-netns@.service", "/etc/fail2ban/action.d/caddy-vnic.conf",
	})

	// An upgrade replaces the process, and not the unit's life nor the Caddyfile.
	started := u.property("caddy", "ActiveEnterTimestampMonotonic")
	wantVersion(s, "v9.0.0")
	u.shell(strings.Replace(install, "0.1.0_amd64", "9.0.1_"+runtime.GOARCH, 1))
	wantVersion(s, "v9.0.1")
	s.wantService()
	if u.property("caddy", "ActiveEnterTimestampMonotonic") != started {
		t.Error("the upgrade has restarted the unit")
	}

	u.shell(yes + examples.Beginning(t, installingPage, "sudo apt remove caddy-vnic"))
	s.wantSame("after the package is removed", before)
	u.run("sh", "-euc", "test ! -e /usr/bin/caddy && grep -q 'bridge lan' /etc/caddy/Caddyfile")
	u.shell(yes + examples.Beginning(t, installingPage, "sudo apt purge caddy-vnic"))
	for _, left := range []string{"/etc/caddy", "/var/lib/caddy", "/var/log/caddy", "/usr/share/caddy-vnic", "/etc/systemd/system/caddy.service",
		"/etc/systemd/system/multi-user.target.wants/caddy.service", "/etc/fail2ban/action.d/caddy-vnic.conf"} {
		if _, err := u.try(t.Context(), "test", "-e", left); err == nil {
			t.Errorf("the purge leaves %s", left)
		}
	}
}

// wantVersion waits until the running program is of a version.
func wantVersion(s *scene, version string) {
	s.t.Helper()
	s.waitFor("the status tells "+version, func() bool {
		text, err := fetch(s.Server.HTTPClient(), "http://localhost:2019/vnic/status")
		var status struct{ Version string }
		return err == nil && json.Unmarshal([]byte(text), &status) == nil && status.Version == version
	})
}

// podmanHere are podman's settings for a machine that may be a container itself: limits are not
// raised, and a control group of either version will do.
const podmanHere = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
`

func testImage(t *testing.T, archive string) {
	s := newScene(t, paper.NetworkOptions{})
	s.nicIsEth1()
	before := s.snapshot()
	s.run(s.Server, "mknod", "-m", "666", filepath.Join(s.dir, "tun"), "c", "10", "200") // its usual mode
	if err := os.Mkdir(filepath.Join(s.dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("etc/Caddyfile", caddyfile{nic: "eth1"}.String())
	try := func(ctx context.Context, words string) (string, error) {
		output, err := s.Server.Run(ctx, "env", "CONTAINERS_CONF="+s.write("containers.conf", podmanHere), "sh", "-euc",
			"sudo() { shift; command podman --root "+s.dir+"/storage --runroot "+s.dir+"/run --tmpdir "+s.dir+"/tmp \"$@\"; }\n"+strings.NewReplacer(
				"caddy-vnic_0.1.0_image.tar", archive,
				"caddy-vnic:0.1.0", "caddy-vnic:9.0.1",
				"--device /dev/net/tun", "--device "+s.dir+"/tun:/dev/net/tun",
				"--volume /etc/caddy:", "--volume "+s.dir+"/etc:",
			).Replace(words))
		return string(output), err
	}
	shell := func(words string) string {
		t.Helper()
		output, err := try(t.Context(), words)
		if err != nil {
			t.Fatal(err)
		}
		return output
	}
	shell(examples.Beginning(t, containersPage, "sudo podman load"))
	shell(examples.Beginning(t, containersPage, "sudo podman run"))
	t.Cleanup(func() {
		ctx := context.Background()
		if t.Failed() {
			t.Log(try(ctx, "sudo podman logs caddy-vnic 2>&1"))
		}
		if _, err := try(ctx, "sudo podman rm --force --time 5 --ignore caddy-vnic"); err != nil {
			t.Error(err)
		}
	})
	s.waitFor("Caddy runs in the container", func() bool { return configInForce(s) })
	s.wantService()
	if status := s.status(); status.DatapathReason != "" {
		t.Errorf("packets are carried in userspace: %s", status.DatapathReason)
	}
	shown := shell(examples.Beginning(t, containersPage, "sudo podman exec"))
	wantAll(t, "the status", shown, []string{"Data path kernel", "caddy-vnic v9.0.1."})

	// It is no root, and can do no more than the unit of systemd.
	pid := strings.TrimSpace(shell("sudo podman inspect --format '{{.State.Pid}}' caddy-vnic"))
	process, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, "Caddy's process", string(process), []string{"Uid:\t65532\t65532\t65532\t65532\n", "CapEff:\t000000c000003400\n", "CapBnd:\t000000c000003400\n"})
	shell(examples.Beginning(t, containersPage, "sudo podman stop"))
	s.wantSame("after the container", before)
	wantCompose(t)
}

// wantCompose checks that the compose file asks for what the command of the page asks for.
func wantCompose(t *testing.T) {
	t.Helper()
	compose, err := os.ReadFile("../packaging/container/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	run := examples.Beginning(t, containersPage, "sudo podman run")
	capabilities := strings.Fields(run[strings.Index(run, "--cap-add ")+len("--cap-add "):])[0]
	wantAll(t, "the compose file", string(compose), []string{
		"cap_drop: [ALL]", "cap_add: [" + strings.ReplaceAll(capabilities, ",", ", ") + "]", "- /dev/net/tun\n", "network_mode: host\n",
		"image: " + run[strings.LastIndex(run, "ghcr.io/"):],
	})
}
