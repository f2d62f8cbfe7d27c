package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// upgrade replaces the running Caddy by the command, and follows the successor. It waits for the end
// of the old process.
func (s *scene) upgrade() {
	s.t.Helper()
	command := strings.TrimPrefix(examples.Beginning(s.t, "docs/upgrading.md", "caddy vnic"), "caddy vnic ")
	followUpgrade(s.t, s.caddy, func() string { return s.vnic(strings.TrimSpace(command)) })
}

// followUpgrade follows Caddy to the process that has taken over from it by a command. It waits for the
// end of the old process.
func followUpgrade(t *testing.T, caddy *netlab.Caddy, command func() string) {
	t.Helper()
	old, pid := caddy.Process(), 0
	said := command()
	if _, err := fmt.Sscanf(said, "Process %d has taken over.", &pid); err != nil {
		t.Fatalf("caddy vnic upgrade says %q (%v)", said, err)
	}
	if err := caddy.Follow(pid); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the old process does not end")
	}
}

// startToUpgrade starts Caddy with a segment of each kind. The connection is with a server that is not
// Caddy's.
func startToUpgrade(t *testing.T, datapath, sites string) (s *scene, idle *session) {
	t.Helper()
	s = newScene(t, paper.NetworkOptions{IPv6: true})
	s.start(caddyfile{datapath: datapath, families: "46", sites: sites, a: "ports any", b: "ports any\nnetns " + s.ownNamespace("b"), policy: "steer b port tcp/9001\nlb_policy first a"})
	s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
	return s, s.openSession("192.168.1.2:9000")
}

// Row R1: beside an upgrade no datagram of a flow is lost, no connection is reset or refused, and
// requests in flight are answered.
func TestUpgrade(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s, idle := startToUpgrade(t, datapath, "")
		datagrams := s.sendNumbered(10000)
		stream := s.startStream()
		stopConnecting := s.connectAgainAndAgain("192.168.1.2:80")
		before := s.status()

		for range 3 {
			s.upgrade()
			idle.want("an upgrade")
			if got := s.get("http://192.168.1.2/"); got != "a" {
				t.Errorf("after an upgrade PC1 got %q", got)
			}
		}
		connected := stopConnecting()
		lost, arrived := datagrams.end()
		starved := backlogDrops(t) - datagrams.backlog // a machine that drops packets for want of time
		t.Logf("%d were lost, %d of them by the machine, %d came twice, %d out of order; %d connections", lost, starved, arrived.again, arrived.late, connected)
		if lost > starved {
			t.Errorf("%d datagrams were lost", lost)
		}
		stream.finish()
		if after := s.status(); after.Segments["a"].Packets.To < before.Segments["a"].Packets.To {
			t.Errorf("segment a has got %d packets, and %d before the upgrades", after.Segments["a"].Packets.To, before.Segments["a"].Packets.To)
		}
	})
}

// connectAgainAndAgain makes PC1 ask a site by a new connection each few milliseconds, until stop,
// which returns how many it were. None may fail.
func (s *scene) connectAgainAndAgain(address string) (stop func() int) {
	var connected atomic.Int64
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if got, err := fetch(s.PC1.HTTPClient(), "http://"+address+"/"); err != nil || got != "a" {
					s.t.Errorf("connection %d: %q (%v)", connected.Load(), got, err)
					return
				}
				connected.Add(1)
			}
		})
	}
	return func() int {
		close(done)
		clients.Wait()
		return int(connected.Load())
	}
}

// Row R2: a successor that fails, before or after it has taken the data path over, hangs, or is
// another program, changes nothing.
func TestFailedUpgrade(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.listen(s.Server, "0.0.0.0:8099", say("a port that is taken"))
		program := s.copyOfCaddy(s.dir)
		socket := filepath.Join(s.dir, "site.sock")
		config := caddyfile{
			datapath: datapath, a: "ports any", b: "ports any\nnetns " + s.ownNamespace("b"), policy: "steer b port tcp/9001\nlb_policy first a",
			sites: pages + onUnixSocket(socket),
		}
		s.startBinaryBy("", program, config)
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.2:9000")
		before := s.snapshot()
		unchanged := func(after string) {
			t.Helper()
			session.want(after)
			s.wantUnixSocket(socket)
			if got := s.get("http://192.168.1.2/"); got != "a" {
				t.Errorf("after %s PC1 got %q", after, got)
			}
			if s.wantSame("after "+after, before); s.status().Flows == 0 {
				t.Errorf("after %s no flow is known", after)
			}
		}

		running := s.fromAdmin("/config/")
		server := func(listen string) string {
			return strings.Replace(running, `"servers":{`, `"servers":{"another":{"listen":["`+listen+`"]},`, 1)
		}
		s.wantUpgradeRefused(server(":8099"), "it ended before its configuration had started")
		unchanged("a successor whose other port is taken")
		other := strings.Replace(running, `192.168.1.2/24`, `192.168.1.3/24`, 1)
		s.wantUpgradeRefused(other, "it ended before its configuration had started")
		unchanged("a successor with another address")
		s.wantUpgradeRefused("{", "the body is no JSON")
		name := s.damagedNamespace()
		s.wantUpgradeRefused(strings.Replace(running, `"segments":{`, `"segments":{"c":{"addresses":["192.168.70.1/24"],"netns":"`+name+`"},`, 1), "it ended before its configuration had started")
		unchanged("a successor that cannot make all its devices")

		original := s.write("original", "")
		s.run(s.Server, "mv", program, original)
		for what, want := range map[string]string{
			"#!/bin/sh\nexit 3\n":         "did not take over, and nothing has changed: it ended before",
			"#!/bin/sh\nexec sleep 100\n": "its configuration has not started within 30s",
			"no program":                  "exec format error",
		} {
			s.writeProgram(filepath.Base(program), what)
			s.wantUpgradeRefused(running, want)
			unchanged(fmt.Sprintf("%q", what))
		}
		s.run(s.Server, "mv", original, program)
		s.upgrade()
		session.want("an upgrade after those that failed")
	})
}

// damagedNamespace makes a file that has the name of a namespace and is none.
func (s *scene) damagedNamespace() (name string) {
	s.t.Helper()
	name = s.name + "-damaged"
	path := filepath.Join("/run/netns", name)
	s.run(s.Server, "touch", path)
	s.t.Cleanup(func() { os.Remove(path) })
	return name
}

// copyOfCaddy makes a program of its own file in a directory. A test may replace it, or let a user run it
// who cannot look into the directory of the tests' own program.
func (s *scene) copyOfCaddy(dir string) (path string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	path = filepath.Join(dir, "caddy-program")
	s.run(s.Server, "cp", self, path)
	return path
}

// wantUpgradeRefused asks for an upgrade to a configuration, which must fail.
func (s *scene) wantUpgradeRefused(config, want string) {
	s.t.Helper()
	client := *s.adminClient()
	client.Timeout = time.Minute
	resp, err := client.Post("http://localhost:2019/vnic/upgrade", "application/json", strings.NewReader(config))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); resp.StatusCode == http.StatusOK || !strings.Contains(string(answer), want) {
		s.t.Errorf("an upgrade is answered %d %s (%v), want %q", resp.StatusCode, answer, err, want)
	}
}

// Row R6: what was set by hand, bans and counts are as before, and the link hears nothing of an
// upgrade. Nothing piles up.
func TestUpgradeKeepsWhatIsKnown(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, NAT: true})
		socket := filepath.Join(s.dir, "site.sock")
		s.start(caddyfile{
			datapath: datapath, families: "46", a: "ports any", b: "ports any", policy: "lb_policy weighted_round_robin a b",
			sites: pages + onUnixSocket(socket),
		})
		if got := s.get("http://192.168.1.2/"); got == "" {
			t.Fatal("no service")
		}
		s.setByHand()
		s.awaitQuiet()
		before, listened := s.known(), s.listeners()
		wan := s.capture(s.Router, paper.RouterWANDevice)
		for range 3 {
			s.upgrade()
			if after := s.known(); after != before {
				t.Errorf("after an upgrade the status tells %s, want %s", after, before)
			}
			s.wantUnixSocket(socket)
		}
		for _, f := range s.frames(wan) {
			if announces(f, paper.NICMAC) {
				t.Error("an upgrade announces the pseudo address")
			}
		}
		if now := s.listeners(); now != listened {
			t.Errorf("after upgrades these listen: %s, want %s", now, listened)
		}
		s.vnic("start", "b")
		s.vnic("switch", "lan", "b")
		s.wantPolicy("b")
		s.vnic("unban", "198.51.100.0/24")
		first := s.countLeaks()
		for range 3 {
			s.upgrade()
		}
		var last leaks
		s.waitFor("descriptors, BPF maps and goroutines are as few as before: "+first.String(), func() bool {
			last = s.countLeaks()
			return last.within(first)
		})
	})
}

// setByHand does what an admin can do beside the configuration.
func (s *scene) setByHand() {
	s.t.Helper()
	s.vnic("switch", "lan", "a")
	s.vnic("weight", "b", "7")
	s.vnic("drain", "b")
	s.vnic("ban", "198.51.100.0/24", "--for", "1h")
	s.vnic("stop", "b")
}

// known is what the status tells of it, and of what has happened.
func (s *scene) known() string {
	s.t.Helper()
	status := s.status()
	a, b, lan := status.Segments["a"], status.Segments["b"], status.Bridges["lan"]
	return fmt.Sprint(lan.SwitchedTo, b.Weight, a.State, b.State, status.Bans, a.NewFlows, lan.Gateways)
}

// listeners are the addresses of segments on which the server listens.
func (s *scene) listeners() string {
	s.t.Helper()
	return s.run(s.Server, "sh", "-c", "ss -Hltn | awk '{print $4}' | grep 192.168.[56]0 | sort -u | tr '\\n' ' '; true")
}

// awaitQuiet waits until the announcements of a start are over.
func (s *scene) awaitQuiet() { time.Sleep(5 * time.Second) }

// wantPolicy checks which segment serves PC1.
func (s *scene) wantPolicy(segment string) {
	s.t.Helper()
	if got := s.get("http://192.168.1.2/"); got != segment {
		s.t.Errorf("PC1 got %q, want %s", got, segment)
	}
}

// onUnixSocket is a site of Caddy's on a Unix socket.
func onUnixSocket(path string) string { return "http:// {\nbind unix/" + path + "\nrespond unix\n}\n" }

// wantUnixSocket checks that a site on a Unix socket is reached soon.
func (s *scene) wantUnixSocket(path string) {
	s.t.Helper()
	s.waitFor("the site on a Unix socket answers", func() bool {
		got, err := s.Server.Run(s.t.Context(), "curl", "-sS", "--unix-socket", path, "http://localhost/")
		return err == nil && string(got) == "unix"
	})
}
