package integration_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows A1 and F13: to tools that nobody here wrote, the pseudo address is an ordinary host's.
func TestIPv6Tools(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath, families: "46"})
		s.wantService6()
		if got := s.run(s.Neighbours[0], "ndisc6", "--single", "--quiet", "2001:db8:1::2", "eth0"); !strings.EqualFold(strings.TrimSpace(got), paper.NICMAC.String()) {
			t.Errorf("ndisc6 finds the pseudo address at %q, want %s", got, paper.NICMAC)
		}
		wantAll(t, "tracepath", s.run(s.PC1, "tracepath", "-6", "-n", "2001:db8:1::2"), []string{"2001:db8:1::2", "reached", "pmtu 1500"})
	})
}

// Row A10: the link has a router that advertises itself, as radvd and dnsmasq do it. The bridge
// uses the gateway of its configuration, the bare NIC gets no address, and no host takes the bridge
// for a router.
func TestIPv6Routers(t *testing.T) {
	t.Parallel()
	for _, router := range []struct {
		name, config string
		args         []string
	}{
		{"radvd", `interface wan {
	AdvSendAdvert on;
	MinRtrAdvInterval 3;
	MaxRtrAdvInterval 4;
	AdvLinkMTU 1400;
	prefix 2001:db8:1::/64 { AdvOnLink on; AdvAutonomous on; };
	RDNSS 2001:db8:1::1 {};
};
`, []string{"--nodaemon", "--logmethod", "stderr", "--pidfile", "%s.pid", "--config", "%s"}},
		{"dnsmasq", `port=0
enable-ra
ra-param=wan,mtu:1400,4,600
dhcp-range=2001:db8:1::100,2001:db8:1::1ff,slaac,64,1h
leasefile-ro
interface=wan
bind-interfaces
user=root
`, []string{"--keep-in-foreground", "--log-facility=-", "--pid-file", "--conf-file=%s"}},
	} {
		t.Run(router.name, func(t *testing.T) {
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
				s.start(caddyfile{datapath: datapath, families: "46"})
				s.wantService6()
				config := s.write(router.name+".conf", router.config)
				args := make([]string, len(router.args))
				for i, a := range router.args {
					args[i] = strings.ReplaceAll(a, "%s", config)
				}
				s.background(s.Router, router.name, args...)
				heard := s.routersHeard(s.Neighbours[0])
				wantAll(t, "what the neighbour hears", heard, []string{"2001:db8:1::/64", "1400", "from " + paper.RouterLinkLocal.String()})
				for line := range strings.Lines(heard) {
					if from, ok := strings.CutPrefix(strings.TrimSpace(line), "from "); ok && from != paper.RouterLinkLocal.String() {
						t.Errorf("%s is a router, too:\n%s", from, heard)
					}
				}
				time.Sleep(time.Second) // for the host's kernel
				if got := s.ip(s.Server, "-6 -o address show dev nic0"); got != "" {
					t.Errorf("the bare NIC has an address: %s", got)
				}
				if got := s.ip(s.Server, "-6 route show dev nic0"); got != "" {
					t.Errorf("the bare NIC has a route: %s", got)
				}
				s.wantService6()
			})
		})
	}
}

// routersHeard is what rdisc6 says of all routers that answer a solicitation.
func (s *scene) routersHeard(h *netlab.Host) (said string) {
	s.t.Helper()
	s.waitFor("a router answers", func() bool {
		output, err := h.Run(s.t.Context(), "rdisc6", "-m", "-r", "1", "-w", "1500", "eth0")
		said = string(output)
		return err == nil
	})
	return said
}

// background starts a program on a host, which runs until the test ends.
func (s *scene) background(h *netlab.Host, name string, args ...string) {
	s.t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	process, err := h.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = process.Signal(unix.SIGTERM)
		_ = process.Wait()
		if s.t.Failed() {
			s.t.Logf("%s: %s", name, &output)
		}
	})
}

// Rows A1, A10, L2, L6 and S1: a neighbour runs the attacks of thc-ipv6, one after the other. No
// request of a client fails. Three are left out, because they fill the kernel's table of
// neighbours, which all namespaces share: flood_router26, flood_rs6 and ndpexhaust26. Other tests
// could then send nothing over IPv6.
func TestIPv6Attacks(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath, families: "46"})
		s.wantService6()
		const pseudo, router = "2001:db8:1::2", "2001:db8:1::1"
		for _, attack := range []string{
			"flood_advertise6 eth0",
			"flood_solicitate6 eth0 " + pseudo,
			"flood_mld26 eth0",
			"flood_unreach6 eth0 " + pseudo,
			"flood_redir6 eth0 " + pseudo,
			"denial6 eth0 " + pseudo + " 1",
			"denial6 eth0 " + pseudo + " 3",
			"smurf6 eth0 " + pseudo,
			"rsmurf6 eth0 " + pseudo,
			"dos-new-ip6 eth0",
			"fake_advertise6 eth0 fd00:50::1",
			"fake_router26 -A 2001:db8:1::/64 eth0",
			"redir6 eth0 " + pseudo + " fd00:50::1 " + router + " fe80::bad",
			"toobig6 eth0 2001:db8:10::2 " + pseudo + " 1280",
			"kill_router6 eth0 *",
			"fragmentation6 eth0 " + pseudo,
			"exploit6 eth0 " + pseudo,
			"implementation6 -p eth0 " + pseudo,
			"fuzz_ip6 -x -1 -2 -3 -4 -5 -7 -8 -9 -0 -s 80 eth0 " + pseudo,
			"firewall6 eth0 " + pseudo + " 80",
			"thcsyn6 eth0 " + pseudo + " 80",
			"randicmp6 eth0 " + pseudo,
		} {
			s.serveDuring("http://"+pseudo6+"/", s.Neighbours[0], attack, 300*time.Millisecond)
		}
		s.wantService6()
		if got := s.ip(s.Server, "-6 -o address show dev nic0"); got != "" {
			t.Errorf("the bare NIC has an address: %s", got)
		}
	})
}

// serveDuring makes requests while a host runs an attack of thc-ipv6, for at most a time. All of
// them must succeed.
func (s *scene) serveDuring(url string, by *netlab.Host, attack string, most time.Duration) {
	s.t.Helper()
	words := strings.Fields(attack)
	args := append([]string{"--signal=INT", "--kill-after=1", fmt.Sprint(most.Seconds()), "atk6-" + words[0]}, words[1:]...)
	var output bytes.Buffer
	cmd := exec.Command("timeout", args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	process, err := by.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		_ = process.Wait() // most of them never end by themselves, and some say by their exit status what they found
		over <- nil
	}()
	if served := s.serveUntil(url, attack, over); served == 0 {
		s.t.Errorf("nobody was served beside %s", attack)
	}
	if usage := output.String(); strings.Contains(usage, "Syntax: ") {
		s.t.Errorf("%s says %s", attack, usage)
	}
}
