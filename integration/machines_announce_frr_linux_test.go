package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// frr imports no IPv6 routes from tables other than the main one.
var frr = routingDaemon{start: (*fleet).startFRR, atServer: "frr.conf", withoutIPv6: true}

// Row H9: FRR takes the address to a router as BIRD does.
func TestManyServersWithFRR(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		f := newFleetOf(t, datapath, 2, frr)
		f.serveByTurns()
		drained := f.servers[0]
		f.waitFor("the route that zebra has copied is there", func() bool { return f.copied(drained) })
		drained.stopCaddy()
		f.waitRouted("stopped")
		f.waitFor("the route that zebra has copied is gone", func() bool { return !f.copied(drained) })
	})
}

// copied tells whether zebra has Caddy's route in the server's main table.
func (f *fleet) copied(m *twin) bool {
	f.t.Helper()
	return strings.Contains(f.run(m.host, "ip", "route", "show", announced4), "unreachable "+announced4)
}

// startFRR starts FRR's daemons on a host, and gives them a packaged configuration as frr.service does.
func (f *fleet) startFRR(host *netlab.Host, packaged, _ string) {
	f.t.Helper()
	config, err := os.ReadFile(filepath.Join("..", "packaging", "frr", packaged))
	if err != nil {
		f.t.Fatal(err)
	}
	dir := f.frrDir()
	log := filepath.Join(dir, "frr.log")
	text := f.replaced(packaged, string(config), [][2]string{{"log syslog informational", "log file " + log}})
	path := filepath.Join(dir, packaged)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	for _, daemon := range []string{"zebra", "bgpd", "bfdd"} {
		f.startDaemon(host, daemon, dir)
	}
	f.run(host, "vtysh", "--vty_socket", dir, "-f", path)
	f.t.Cleanup(func() {
		if f.t.Failed() {
			said, _ := os.ReadFile(log)
			f.t.Logf("the log of FRR with %s ends so:\n%s", packaged, said[max(0, len(said)-2000):])
		}
	})
}

// startDaemon starts one of FRR's daemons without a configuration, and waits until vtysh can speak to it.
func (f *fleet) startDaemon(host *netlab.Host, daemon, dir string) {
	f.t.Helper()
	args := []string{"-f", "/dev/null", "-i", filepath.Join(dir, daemon+".pid"), "-z", filepath.Join(dir, "zserv.api"), "--vty_socket", dir, "-P", "0"}
	if daemon == "bfdd" {
		args = append(args, "--bfdctl", filepath.Join(dir, "bfdd.sock"))
	}
	if _, err := host.Start(exec.Command("/usr/lib/frr/"+daemon, args...)); err != nil {
		f.t.Fatalf("%v: the test needs FRR", err)
	}
	f.waitFor(fmt.Sprintf("FRR's %s runs on %s", daemon, host.Name()), func() bool {
		_, err := os.Stat(filepath.Join(dir, daemon+".vty"))
		return err == nil
	})
}

// frrDir makes a directory for FRR's user, to whom the daemons change. Nobody else can enter the
// test's own one.
func (f *fleet) frrDir() string {
	f.t.Helper()
	owner, err := user.Lookup("frr")
	if err != nil {
		f.t.Fatalf("%v: the test needs FRR", err)
	}
	dir, err := os.MkdirTemp("", "frr-*")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { os.RemoveAll(dir) })
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		f.t.Fatal(err)
	}
	return dir
}
