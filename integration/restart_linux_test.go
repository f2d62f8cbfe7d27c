package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// restarts are the ways in which Caddy ends before another one is started.
var restarts = map[string]func(*serviceManager){
	"restart": func(m *serviceManager) { m.s.stop() },
	"kill":    (*serviceManager).kill,
}

// startToRestart starts Caddy with two VNICs and a service manager. The connection is with a server
// that is not Caddy's.
func startToRestart(t *testing.T, config caddyfile) (m *serviceManager, idle *session) {
	t.Helper()
	m = newScene(t, paper.NetworkOptions{IPv6: true}).superviseCaddy()
	m.start(config)
	m.s.listen(m.s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
	return m, m.s.openSession("192.168.1.2:9000")
}

var toRestart = caddyfile{datapath: "kernel", families: "46", a: "ports any", b: "ports any", policy: "lb_policy ip_hash a"}

// onEachRestart runs a test for both ways in which Caddy ends, and for both data paths on which the next
// one goes on. The first one is on the kernel path, because nothing else is kept.
func onEachRestart(t *testing.T, test func(t *testing.T, name string, end func(*serviceManager), datapath string)) {
	for name, end := range restarts {
		t.Run(name, func(t *testing.T) {
			onEachInTurn(t, func(t *testing.T, datapath string) { test(t, name, end, datapath) })
		})
	}
}

// Rows R3, R4 and R7: while a service manager keeps Caddy's files, servers that are not Caddy's notice
// nothing of a restart or of kill -9, and connections to Caddy's sites wait. Nothing piles up. On the
// userspace path nothing is kept, and connections are picked up.
func TestRestart(t *testing.T) {
	onEachRestart(t, func(t *testing.T, name string, end func(*serviceManager), datapath string) {
		if datapath == "userspace" {
			wantPlainRestart(t, end)
			return
		}
		m, idle := startToRestart(t, toRestart)
		s, files := m.s, m.count()
		datagrams := s.sendNumbered(10000)
		stream := s.startStream()
		stopConnecting := func() int { return 0 }
		if name == "restart" { // kill -9 ends what a site has accepted
			stopConnecting = s.connectAgainAndAgain("192.168.1.2:80")
		}
		for range 3 {
			end(m)
			idle.want("the end of Caddy")
			s.openSession("192.168.1.2:9000").want("the end of Caddy, for a new connection")
			if tables := s.stdout(s.Server, "nft", "list", "tables"); !strings.Contains(tables, "ip caddy-vnic-") {
				t.Errorf("while Caddy is away nothing keeps the host's kernel off the segments: %s", tables)
			}
			waits := s.openSession("192.168.1.2:80")
			m.start(toRestart)
			idle.want("a " + name)
			if _, err := io.WriteString(waits.conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
				t.Error(err)
			} else if line, err := waits.lines.ReadString('\n'); err != nil || !strings.Contains(line, "200 OK") {
				t.Errorf("a connection to a site that has waited for a %s gets %q (%v)", name, line, err)
			}
			s.waitFor("the service manager keeps as many files as before", func() bool { return m.count() == files })
		}
		connected := stopConnecting()
		lost, arrived := datagrams.end()
		starved := backlogDrops(t) - datagrams.backlog // a machine that drops packets for want of time
		t.Logf("%d were lost, %d of them by the machine, %d came twice, %d out of order; %d connections to a site", lost, starved, arrived.again, arrived.late, connected)
		if lost > starved {
			t.Errorf("%d datagrams were lost", lost)
		}
		stream.finish()
	})
}

// wantPlainRestart restarts Caddy on the userspace path: the status says that this interrupts connections,
// of which one can be picked up.
func wantPlainRestart(t *testing.T, end func(*serviceManager)) {
	t.Helper()
	config := toRestart
	config.datapath = "userspace"
	m, idle := startToRestart(t, config)
	if says := m.s.fromAdmin("/vnic/status"); !strings.Contains(says, `"restart":"packets are carried in userspace"`) {
		t.Errorf("the status does not say what a restart does: %s", says)
	}
	if checked := m.s.vnic("check", "--config", filepath.Join(m.s.dir, "Caddyfile")); !strings.Contains(checked, "a restart interrupts connections, although the service manager could keep the files: packets are carried in userspace") {
		t.Errorf("caddy vnic check says\n%s", checked)
	}
	end(m)
	if n := m.count(); n > 0 {
		t.Errorf("the service manager keeps %d files", n)
	}
	m.start(config)
	idle.want("a start")
}

// Row R4: without the files nothing of Caddy is left but rules without effect, and a start is as
// usual.
func TestStopOfKept(t *testing.T) {
	t.Parallel()
	onEachRestart(t, func(t *testing.T, _ string, end func(*serviceManager), datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		m := s.superviseCaddy()
		before := s.snapshot()
		m.start(caddyfile{datapath: datapath})
		end(m)
		m.settle()
		if datapath == "kernel" {
			s.wantChanged(before)
		}
		m.drop("")
		s.wantSame("after the files are dropped", withoutRules(before))
		s.wantRulesWithoutEffect()
		m.start(caddyfile{datapath: datapath})
		s.wantService()
	})
}

// Row R6: what was set by hand, bans and counts are as before a restart, and the link hears nothing.
func TestRestartKeepsWhatIsKnown(t *testing.T) {
	t.Parallel()
	onEachRestart(t, func(t *testing.T, name string, end func(*serviceManager), datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, NAT: true})
		m := s.superviseCaddy()
		config := caddyfile{datapath: "kernel", families: "46", a: "ports any", b: "ports any", policy: "lb_policy weighted_round_robin a b"}
		m.start(config)
		if got := s.get("http://192.168.1.2/"); got == "" {
			t.Fatal("no service")
		}
		s.setByHand()
		s.awaitQuiet()
		before := s.known()
		wan := s.capture(s.Router, paper.RouterWANDevice)
		end(m)
		config.datapath = datapath
		m.start(config)
		if after := s.known(); after != before {
			t.Errorf("after a %s the status tells %s, want %s", name, after, before)
		}
		for _, f := range s.frames(wan) {
			if announces(f, paper.NICMAC) {
				t.Errorf("a %s announces the pseudo address", name)
			}
		}
		s.vnic("start", "b")
		s.vnic("switch", "lan", "b")
		s.wantPolicy("b")
		s.vnic("unban", "198.51.100.0/24")
	})
}

// Row R5: files that cannot be taken over are dropped, everything is made anew, and the log says why.
func TestColdRestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(*serviceManager)
		why    string
	}{
		"another layout": {func(m *serviceManager) { m.rewriteNote("layout", "another") }, "another version of the program"},
		"another place":  {func(m *serviceManager) { m.rewriteNote("place", "another") }, "in another network namespace"},
		"a lost file":    {func(m *serviceManager) { m.drop(m.files[0].Name()) }, "has not kept the file"},
		"a lost index":   {func(m *serviceManager) { m.drop("caddy-vnic-index") }, "not their index"},
	} {
		t.Run(name, func(t *testing.T) {
			onEachInTurn(t, func(t *testing.T, datapath string) {
				m, _ := startToRestart(t, toRestart)
				m.kill()
				m.settle()
				c.damage(m)
				other := toRestart
				other.datapath, other.policy = datapath, "lb_policy first b"
				m.start(other)
				if log := m.s.caddy.Log(1000); !strings.Contains(log, "this one begins anew") || !strings.Contains(log, c.why) {
					t.Errorf("the log does not say why the start is a cold one:\n%s", log)
				}
				m.s.wantPolicy("b")
			})
		})
	}
}

// rewriteNote changes a field of what the next process is told.
func (m *serviceManager) rewriteNote(field, value string) {
	m.s.t.Helper()
	for _, file := range m.files {
		if file.Name() != "caddy-vnic-index" {
			continue
		}
		record, content, err := succession.OpenRecord(file)
		var index map[string]any
		if err == nil {
			err = json.Unmarshal(content, &index)
		}
		if err != nil {
			m.s.t.Fatal(err)
		}
		note := index["note"].(map[string]any)
		note[field] = value
		content, _ = json.Marshal(index)
		if err := record.Replace(content); err != nil {
			m.s.t.Fatal(err)
		}
	}
}

// Row R5: a restart with another configuration keeps the connections of what stays the same, and
// makes the rest anew. Segments with namespaces of their own are made anew, too.
func TestRestartWithAnotherConfiguration(t *testing.T) {
	t.Parallel()
	onEachRestart(t, func(t *testing.T, _ string, end func(*serviceManager), datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		m := s.superviseCaddy()
		config := caddyfile{datapath: "kernel", families: "46", a: "ports any", b: "ports any", policy: "lb_policy first a b"}
		withNetns, other := config, config
		withNetns.b += "\nnetns " + s.ownNamespace("b")
		other.policy = "lb_policy first a\nsteer b port tcp/9001"
		m.start(withNetns)
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		idle := s.openSession("192.168.1.2:9000")
		sequence := []caddyfile{withNetns, config, other, withNetns}
		if datapath == "userspace" { // which keeps nothing for a second restart
			config.datapath = datapath
			sequence = []caddyfile{config}
		}
		for i, next := range sequence {
			end(m)
			idle.want("the end of Caddy")
			m.start(next)
			idle.want(fmt.Sprint("restart ", i))
			if got := s.get("http://192.168.1.2/"); got != "a" {
				t.Errorf("after restart %d PC1 got %q", i, got)
			}
			if checked := s.vnic("check", "--config", filepath.Join(s.dir, "Caddyfile")); datapath == "kernel" && strings.Contains(checked, "segment b: a restart interrupts its connections") != (next == withNetns) {
				t.Errorf("of restart %d caddy vnic check says\n%s", i, checked)
			}
			if next != other {
				s.vnic("switch", "lan", "b")
				s.wantPolicy("b")
				s.vnic("switch", "lan", "--undo")
			}
		}
		if kept := m.count() > 0; kept != (datapath == "kernel") {
			t.Errorf("on path %s the service manager keeps %d files", datapath, m.count())
		}
	})
}

// Row R5: a device that somebody removes while Caddy is away is made anew, and the others go on.
func TestRestartWithoutADevice(t *testing.T) {
	t.Parallel()
	for _, device := range []string{"vnic-B", "vnic-slow0"} {
		t.Run(device, func(t *testing.T) {
			onEachInTurn(t, func(t *testing.T, datapath string) {
				config := toRestart
				config.policy = "lb_policy first a b"
				m, idle := startToRestart(t, config)
				m.kill()
				m.s.ip(m.s.Server, "link delete "+device)
				config.datapath = datapath
				m.start(config)
				idle.want("a start without " + device)
				m.s.wantPolicy("a")
				m.s.vnic("switch", "lan", "b")
				m.s.wantPolicy("b")
			})
		})
	}
}
