package integration_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// secondInstance is the configuration of a Caddy that has nothing in common with
// the first one but the NIC.
type secondInstance struct{ datapath string }

func (c secondInstance) String() string {
	return fmt.Sprintf(`{
	admin off
	vnic {
		segment c {
			interface vnic-C
			address 192.168.70.1/24
		}
		bridge other {
			nic nic0
			address 192.168.1.9/24
			lb_policy first c
		}
		datapath %s
	}
}
`, c.datapath)
}

// One process bridges a NIC. A second process is told which one does, and gets the NIC when
// the first has ended, in whatever way.
func TestSecondInstance(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath})
		up := s.snapshot()
		output, err := s.caddyCommand("run", secondInstance{datapath})
		if want := fmt.Sprintf("bridge other: nic nic0: process %d bridges it already", s.caddy.Process().PID()); err == nil || !strings.Contains(output, want) {
			t.Errorf("the error lacks %q:\n%s", want, output)
		}
		look := examples.SymptomOf(t, troubleshootingPage, "a process bridges the NIC already").Look[0]
		number := regexp.MustCompile(`process (\d+) bridges`).FindStringSubmatch(output)
		wantAll(t, look, s.shell(strings.Replace(look, "<number>", number[1], 1)), []string{" run --config " + s.dir})
		s.wantSame("after the second has failed", up)
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q of the first", got)
		}
		s.load(caddyfile{datapath: datapath, policy: "lb_policy first b"})
		if got := s.get("http://192.168.1.2/"); got != "b" {
			t.Errorf("after the reload PC1 got %q", got)
		}
		s.kill()
		s.start(caddyfile{datapath: datapath})
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("after the kill PC1 got %q", got)
		}
	})
}

// A NIC that was deleted and made again, and so has another index, is still this
// process's alone.
func TestSecondInstanceOnARemadeNIC(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	s.ip(s.Server, "link delete nic0")
	s.wantLog("a device is lost")
	s.linkAgain()
	s.wantLog("the device is back")
	output, err := s.caddyCommand("run", secondInstance{"auto"})
	if want := "nic nic0: process"; err == nil || !strings.Contains(output, want) {
		t.Errorf("the error lacks %q:\n%s", want, output)
	}
}

// A second instance of the same configuration is told to leave the first one's NIC and
// devices alone, and not how to delete them.
func TestSecondInstanceOfTheSame(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	before := s.snapshot()
	bridges := fmt.Sprintf("bridge lan: nic nic0: process %d bridges it already", s.caddy.Process().PID())
	const open = "segment a: a device vnic-A exists already, and a process has it open"
	for _, other := range []struct{ config, want string }{
		{caddyfile{global: "admin localhost:2020"}.String(), bridges},
		{"{\n\tadmin localhost:2020\n\tvnic {\n\t\tsegment a {\n\t\t\tinterface vnic-A\n\t\t\taddress 192.168.70.1/24\n\t\t}\n\t}\n}\n", open},
	} {
		for _, command := range []string{"run", "vnic check"} {
			output, err := s.caddyCommand(command, verbatim(other.config))
			if err == nil || !strings.Contains(output, other.want) || strings.Contains(output, "ip link del") {
				t.Errorf("%s: %v, want %q and no advice to delete a device:\n%s", command, err, other.want, output)
			}
		}
	}
	s.wantSame("after the others", before)
}
