package integration_test

import (
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row L5: after a stop, and after Caddy was killed, the server's network is what it was
// before the start, and another owner of the address is reached.
func TestNothingIsLeft(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		s.onKernel(kernel)
		config := caddyfile{datapath: datapath}
		before := s.snapshot()
		s.start(config)
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Fatalf("PC1 got %q", got)
		}
		s.wantChanged(before)
		s.stop()
		s.wantSame("after stop", before)

		for range 2 {
			s.start(config)
			if got := s.get("http://192.168.1.2/"); got != "a" {
				t.Fatalf("after a new start PC1 got %q", got)
			}
			s.kill()
			s.wantRulesWithoutEffect()
			s.wantSame("after kill -9", withoutRules(before))
		}
		s.wantNICFree()
		s.start(config)
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("after the last start PC1 got %q", got)
		}
	})
}

// kill ends Caddy by SIGKILL. The kernel closes its devices a moment after its
// end.
func (s *scene) kill() {
	s.t.Helper()
	if err := s.caddy.Process().Signal(unix.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-s.caddy.Process().Done()
	s.waitFor("vnic-A gone after kill -9", func() bool {
		_, err := s.Server.Netlink().LinkByName("vnic-A")
		return err != nil
	})
}

// wantNICFree lets the NIC itself have the pseudo address for a while, and
// reaches a server on it from PC1.
func (s *scene) wantNICFree() {
	s.t.Helper()
	s.ip(s.Server, "address add 192.168.1.2/24 dev nic0")
	s.ip(s.Server, "route add default via 192.168.1.1")
	s.listen(s.Server, "192.168.1.2:8080", say("the host itself"))
	// A filter of a killed Caddy drops packets until its heartbeat is 3 s old. A new
	// connection is tried each time, because TCP sends a lost SYN again only after 1, 3 and 7 s.
	s.waitFor("a server on the NIC's own address", func() bool {
		got, err := hear(s.PC1, "192.168.1.2:8080", 300*time.Millisecond)
		return err == nil && got == "the host itself"
	})
	s.wantPing(s.PC1, paper.PseudoAddr)
	s.ip(s.Server, "address delete 192.168.1.2/24 dev nic0")
}

// snapshot is the server's network as the usual tools show it.
func (s *scene) snapshot() map[string]string {
	s.t.Helper()
	shots := make(map[string]string)
	for _, command := range []string{
		"ip -o link", "ip -o address", "ip rule", "ip -6 rule", "ip route show table all", "ip neighbour", "nft -s list ruleset",
		"sysctl -a --pattern ^net[.]",
	} {
		words := strings.Fields(command)
		shots[command] = progname.ReplaceAllString(s.stdout(s.Server, words[0], words[1:]...), "")
	}
	return shots
}

// progname is what nft tells of the program that owns a table.
var progname = regexp.MustCompile(` # progname .*`)

// stdout is what a command writes to its standard output. What ip writes beside it
// may be about namespaces that others are making just now.
func (s *scene) stdout(h *netlab.Host, name string, args ...string) (output string) {
	s.t.Helper()
	err := h.Do(func() error {
		out, err := exec.CommandContext(s.t.Context(), name, args...).Output()
		output = string(out)
		return err
	})
	if err != nil {
		s.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return output
}

// wantSame checks that nothing is left of a run: what goes a moment after the
// process may take its time.
func (s *scene) wantSame(when string, before map[string]string) {
	s.t.Helper()
	var now map[string]string
	for range 20 {
		if now = s.snapshot(); len(difference(before, now)) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("%s the server's network differs from before the start:\n%s", when, strings.Join(difference(before, now), "\n"))
}

// wantRulesWithoutEffect checks that what a killed Caddy left of rules leads nowhere.
func (s *scene) wantRulesWithoutEffect() {
	s.t.Helper()
	for _, rule := range segmentRule.FindAllStringSubmatch(s.ip(s.Server, "rule"), -1) {
		if routes, _ := s.Server.Run(s.t.Context(), "ip", "route", "show", "table", rule[2]); strings.Contains(string(routes), "dev") {
			s.t.Errorf("after kill -9 the table of the rule from %s has %s", rule[1], routes)
		}
	}
}

// withoutRules is a snapshot that does not look at routing rules.
func withoutRules(shot map[string]string) map[string]string {
	shot = maps.Clone(shot)
	delete(shot, "ip rule")
	delete(shot, "ip -6 rule")
	return shot
}

// wantChanged checks that the snapshots show what a run makes.
func (s *scene) wantChanged(before map[string]string) {
	s.t.Helper()
	now := s.snapshot()
	for _, command := range []string{"ip -o link", "ip -o address", "ip route show table all", "ip neighbour", "nft -s list ruleset"} {
		if now[command] == before[command] {
			s.t.Errorf("%s shows nothing of a running bridge:\n%s", command, now[command])
		}
	}
}

// difference lists the lines that one snapshot has more than the other.
func difference(before, after map[string]string) (lines []string) {
	for command := range before {
		old, now := strings.Split(before[command], "\n"), strings.Split(after[command], "\n")
		for _, line := range old {
			if !slices.Contains(now, line) {
				lines = append(lines, command+": - "+line)
			}
		}
		for _, line := range now {
			if !slices.Contains(old, line) {
				lines = append(lines, command+": + "+line)
			}
		}
	}
	return lines
}
