package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/checkup"
)

// `caddy vnic check` finds what keeps Caddy from starting, and what would
// surprise, on a real machine in every such state.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	tests := []struct {
		name          string
		config        fmt.Stringer // default: caddyfile{}
		prepare, undo []string     // commands on the server
		wrapper       []string     // runs the check
		fails         bool
		wants         []string
		lacks         string // what the output must not have
	}{
		{
			name:    "nothing amiss",
			prepare: []string{"ip route add default via 10.9.9.1 dev other"},
			undo:    []string{"ip route del default"},
			config:  caddyfile{policy: "lb_policy first a b"},
			wrapper: hidden("/run", "mkdir -p /run/systemd/netif/links /run/systemd/netif/leases &&"), // as at every boot of systemd
			wants:   []string{"ok: nothing is missing"},
		}, {
			name:   "two machines that decide differently",
			config: caddyfile{policy: "lb_policy round_robin a b\nfailover keepalived VI_lan"},
			wants:  []string{"warning: bridge lan: failover without a key", "note: bridge lan: failover and lb_policy round_robin"},
		},
		{
			name:   "two machines that announce one address, and decide differently",
			config: caddyfile{policy: "lb_policy round_robin a b\nannounce route table 176"},
			wants:  []string{"warning: bridge lan: announce without a key", "note: bridge lan: announce and lb_policy round_robin"},
		}, {
			name:    "a table of the host's that announces",
			prepare: []string{"ip rule add from 10.1.2.3 table 176 priority 500"},
			undo:    []string{"ip rule del priority 500"},
			config:  caddyfile{policy: "lb_policy ip_hash a b\nannounce route table 176"},
			wants:   []string{"warning: bridge lan: announce route table 176: a routing rule of priority 500 (ip rule) looks routes up there"},
		}, {
			name:    "machines that announce one address before one server",
			prepare: []string{"ip link add far type veth peer name near"},
			undo:    []string{"ip link del far"},
			config:  caddyfile{policy: "lb_policy round_robin b\nannounce route table 176", deviceB: "device far", b: "client_ip preserve"},
			wants:   []string{"warning: bridge lan: announce, and segment b is behind device far without aliases", "warning: bridge lan: announce, and segment b is behind device far and chosen by lb_policy round_robin"},
		}, {
			name:    "machines that could both have a server",
			prepare: []string{"ip link add far type veth peer name near"},
			undo:    []string{"ip link del far"},
			config: caddyfile{deviceB: "device far", policy: "lb_policy ip_hash b\nfailover keepalived VI_lan\n}\n" +
				"bridge wan {\nnic other\naddress 10.9.9.9/24\nlb_policy ip_hash b\nfailover keepalived VI_wan"},
			wants: []string{"warning: segment b: the bridges lan, wan give it flows and do not follow one instance of keepalived"},
		}, {
			name:   "machines whose server sees aliases",
			config: caddyfile{policy: "lb_policy flow_hash b\nannounce route table 176", deviceB: "device far"},
			fails:  true,
			wants:  []string{"bridge lan: announce: the server of segment b is behind device far, so its answers may come to another machine"},
		}, {
			name:   "several errors at once",
			config: caddyfile{nic: "nic9"},
			prepare: []string{
				"ip tuntap add vnic-A mode tap", "ip address add 192.168.60.9/24 dev other",
			},
			undo:  []string{"ip tuntap del vnic-A mode tap", "ip address del 192.168.60.9/24 dev other"},
			fails: true,
			wants: []string{"error: bridge lan: nic nic9: no such device", "error: segment a: a device vnic-A exists already", "error: segment b: address 192.168.60.1/24 overlaps"},
		}, {
			name:    "missing capabilities",
			config:  caddyfile{a: "netns a"},
			wrapper: []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all"},
			fails:   true,
			wants:   []string{"error: CAP_NET_ADMIN is missing", "error: segment a: CAP_SYS_ADMIN is missing, to open netns a", "warning: CAP_NET_BIND_SERVICE is missing", "note: the packet filter was not looked at"},
		}, {
			name:    "a namespace that cannot be made",
			config:  caddyfile{a: "netns absent"},
			wrapper: hidden("/run", "mkdir /run/netns && mount -o remount,ro /run &&"),
			fails:   true,
			wants:   []string{`error: segment a: the network namespace "absent" is absent, and cannot be made here (read-only file system): make it first (ip netns add absent)`},
		}, {
			name: "sites bound to what is no segment",
			config: caddyfile{sites: "http:// {\n\tbind vnic/a\n}\n" +
				"http://c {\n\tbind vnic/c\n}\n" +
				"http://d {\n\tbind vnic-B {\n\t\tprotocols h1\n\t}\n}\n"},
			fails: true,
			wants: []string{
				`Caddyfile:28: bind vnic/c: unknown segment "c": the configuration has a, b`,
				"Caddyfile:31: bind vnic-B: vnic-B is no address, but the VNIC of segment b: use `bind vnic/b`",
			},
			lacks: "bind vnic/a:",
		}, {
			name:   "no vnic block",
			config: verbatim("http:// {\n\tbind vnic/a\n}\n"),
			fails:  true,
			wants:  []string{"Caddyfile:2: bind vnic/a: the configuration has no segments: add the global option vnic"},
		}, {
			name:    "without /dev/net/tun",
			wrapper: hidden("/dev/net", ""),
			fails:   true,
			wants:   []string{"error: /dev/net/tun is missing", "modprobe tun"},
		}, {
			name:    "network managers",
			wrapper: hidden("/run", "mkdir -p /run/NetworkManager /run/systemd/netif/links && touch /run/systemd/netif/links/1 &&"),
			wants:   []string{"note: NetworkManager runs", "unmanaged-devices=interface-name:vnic-*", "note: systemd-networkd runs"},
		}, {
			name:    "a routing rule that nothing can stand before",
			prepare: []string{"ip rule add pref 0 to 203.0.113.0/24 lookup main", "ip rule add pref 1 to 203.0.113.0/24 lookup main"},
			undo:    []string{"ip rule delete pref 0 to 203.0.113.0/24", "ip rule delete pref 1"},
			wants:   []string{"warning: a routing rule of priority 0 comes before the segments' own"},
			lacks:   "of priority 1",
		}, {
			name:    "NIC down, no default route",
			prepare: []string{"ip link set nic0 down"},
			undo:    []string{"ip link set nic0 up"},
			wants:   []string{"warning: bridge lan: nic nic0 is down", "ip link set nic0 up", "warning: the host has no default route", "`default_route`"},
		}, {
			name:    "NIC with the host's address and session",
			prepare: []string{"ip address add 192.168.1.3/24 dev nic0", "ip address add 192.168.1.4/24 dev nic0", "ip route add default via 192.168.1.1"},
			undo:    []string{"ip route del default", "ip address del 192.168.1.4/24 dev nic0", "ip address del 192.168.1.3/24 dev nic0"},
			wrapper: []string{"env", "SSH_CONNECTION=203.0.113.5 50000 192.168.1.3 22"},
			wants: []string{
				"warning: bridge lan: your own session came in by nic nic0, to 192.168.1.3", "locked out",
				"note: bridge lan: nic nic0 keeps the host's address 192.168.1.4", "note: bridge lan: the host's default route leaves by nic nic0",
			},
		}, {
			name:    "session to the pseudo address",
			prepare: []string{"ip address add 192.168.1.2/24 dev nic0"},
			undo:    []string{"ip address del 192.168.1.2/24 dev nic0"},
			wrapper: []string{"env", "SSH_CONNECTION=203.0.113.5 50000 192.168.1.2 22"},
			fails:   true,
			wants:   []string{"error: bridge lan: address 192.168.1.2 is this host's own", "warning: bridge lan: your own session came in to 192.168.1.2, which the bridge is to take"},
		}, {
			name: "packet filter that rejects what is left",
			prepare: []string{
				"nft add table inet fire", "nft add chain inet fire in { type filter hook input priority 0 ; }", "nft add rule inet fire in tcp dport 22 accept", "nft add rule inet fire in counter reject with icmpx admin-prohibited",
				"nft add chain inet fire out { type filter hook output priority 0 ; policy drop ; }", "nft add rule inet fire out accept",
				"nft add chain inet fire harmless { type filter hook input priority 1 ; }", "nft add rule inet fire harmless tcp dport 23 drop",
				"iptables-nft -A INPUT -j DROP",
			},
			undo: []string{"iptables-nft -F INPUT", "nft delete table ip filter", "nft delete table inet fire"},
			wants: []string{
				"warning: the packet filter's chain inet fire in drops what its other rules leave, and what comes in by a VNIC passes it", "nft insert rule inet fire in iifname",
				"warning: the packet filter's chain inet fire out drops by default, and what a server answers by a VNIC passes it", "nft insert rule inet fire out oifname",
				"warning: the packet filter's chain ip filter INPUT drops what its other rules leave",
			},
			lacks: "inet fire harmless",
		}, {
			name: "packet filter",
			prepare: []string{
				"nft add table inet strict", "nft add chain inet strict in { type filter hook input priority 0 ; policy drop ; }",
				"nft add table ip nat", "nft add chain ip nat pre { type nat hook prerouting priority -100 ; }", "nft add rule ip nat pre tcp dport 80 dnat to 10.9.9.9",
			},
			undo: []string{"nft delete table inet strict", "nft delete table ip nat"},
			wants: []string{
				"warning: the packet filter's chain inet strict in drops by default", "nft insert rule inet strict in iifname",
				"warning: the packet filter's chain ip nat pre rewrites destinations",
			},
		},
	}
	s.all([]string{
		"ip link add other type veth peer name elsewhere", "ip address add 10.9.9.2/24 dev other",
		"ip link set other up", "ip link set elsewhere up",
	})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.config == nil {
				tt.config = caddyfile{}
			}
			s.all(tt.prepare)
			output, err := s.check(tt.config, tt.wrapper, false)
			if tt.fails != (err != nil) {
				t.Errorf("the check ends with %v", err)
			}
			for _, want := range tt.wants {
				if !strings.Contains(output, want) {
					t.Errorf("the output lacks %q:\n%s", want, output)
				}
			}
			if tt.lacks != "" && strings.Contains(output, tt.lacks) {
				t.Errorf("the output has %q:\n%s", tt.lacks, output)
			}
			if !tt.fails && strings.Contains(output, "error: ") {
				t.Errorf("it succeeds, and prints an error:\n%s", output)
			}
			s.all(tt.undo)
		})
	}
}

func TestCheckForwarding(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	for value, want := range map[string]bool{"0": false, "1": true} {
		if err := s.Server.Sysctl("net/ipv4/ip_forward", value); err != nil {
			t.Fatal(err)
		}
		output, err := s.check(caddyfile{}, nil, false)
		if err != nil || strings.Contains(output, "note: ip_forward is 1: harmless") != want {
			t.Errorf("ip_forward is %s: %v:\n%s", value, err, output)
		}
	}
}

// A program that listens on all addresses takes a port from a segment's server, or a
// segment's ports let clients in to it.
func TestCheckWildcardListeners(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.listen(s.Server, "0.0.0.0:22", say("ssh"))
	output, err := s.check(caddyfile{a: "ports any"}, nil, false)
	if err != nil || !strings.Contains(output, "warning: segment a: its ports let clients in to programs that listen on all addresses (tcp/22)") {
		t.Errorf("%v:\n%s", err, output)
	}
	s.listen(s.Server, "0.0.0.0:80", say("nginx"))
	output, err = s.check(caddyfile{}, nil, false)
	if err == nil || !strings.Contains(output, "error: segment a: port tcp/80: a program listens on it on all addresses") {
		t.Errorf("%v:\n%s", err, output)
	}
	// Caddy starts its servers in no certain order.
	refused := regexp.MustCompile(`segment [ab]: port 80: .*\(ss -lnp 'sport = :80' shows it\)`)
	if err := s.tryStart(caddyfile{}.String()); err == nil || !refused.MatchString(err.Error()) {
		t.Errorf("the start says %v", err)
	}
	output, err = s.check(caddyfile{a: "netns a", b: "netns b"}, nil, false)
	if err != nil || strings.Contains(output, "listens on it on all addresses") {
		t.Errorf("in a namespace the port is not taken: %v:\n%s", err, output)
	}
}

// HTTP/3 takes UDP ports, which programs on all addresses may have, too.
func TestCheckWildcardListenersOfUDP(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.packetConn(s.Server, "0.0.0.0:443")
	output, err := s.check(caddyfile{sites: "https://a.example {\n\tbind vnic/a\n\ttls internal\n}\n"}, nil, false)
	if err == nil || !strings.Contains(output, "error: segment a: port udp/443: a program listens on it on all addresses") {
		t.Errorf("%v:\n%s", err, output)
	}
}

// The check, and the log at a start and at a reload, warn of a segment that no client reaches
// and of a port that no server answers.
func TestUnserved(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	config := caddyfile{
		global: "skip_install_trust",
		policy: "lb_policy round_robin a b",
		sites:  "http:// {\n\tbind vnic/a\n}\n",
	}
	const closed = "segment b: it gets flows from bridge lan and opens no port, so it refuses them"
	output, err := s.check(config, nil, false)
	if err != nil || !strings.Contains(output, "warning: "+closed) {
		t.Errorf("%v:\n%s", err, output)
	}
	s.start(config)
	s.wantInLog(closed)

	config.policy = "steer a port tcp/80\nlb_policy first b"
	config.sites = "https://a.example {\n\tbind vnic/a\n\ttls internal\n}\nhttp:// {\n\tbind vnic/b\n}\n"
	const missed = "segment a: a server listens on tcp/443, which bridge lan does not let in"
	output, err = s.check(config, nil, false)
	if err != nil || !strings.Contains(output, "warning: "+missed) || strings.Contains(output, closed) {
		t.Errorf("%v:\n%s", err, output)
	}
	s.load(config)
	s.wantInLog(missed)

	before := strings.Count(s.caddy.Log(1000), "does not let in")
	config.policy = "steer a port tcp/443\nlb_policy first b" // Caddy's own redirects on port 80 are not missed
	s.load(config)
	s.load(caddyfile{policy: "lb_policy first a b"})
	if got := s.caddy.Log(1000); strings.Count(got, "does not let in") != before {
		t.Errorf("the log has a warning too many:\n%s", got)
	}

	config.policy = "steer a name other.example\nlb_policy first b"
	const stray = "segment a: it has sites for a.example, but bridge lan steers clients that ask for these names elsewhere: add `steer a name a.example`"
	output, err = s.check(config, nil, false)
	if err != nil || !strings.Contains(output, "warning: "+stray) {
		t.Errorf("%v:\n%s", err, output)
	}
	s.load(config)
	s.wantInLog(stray)
	config.policy = "steer sites\nlb_policy first b"
	if output, err = s.check(config, nil, false); err != nil || strings.Contains(output, "a.example") {
		t.Errorf("%v:\n%s", err, output)
	}
}

// The check finds no conflict with the devices of the Caddy that runs, and leaves them as they
// are.
func TestCheckBesideARunningCaddy(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	before := s.snapshot()
	output, err := s.check(caddyfile{}, nil, true)
	if err != nil {
		t.Fatalf("%v:\n%s", err, output)
	}
	var findings []checkup.Finding
	if err := json.Unmarshal([]byte(output[strings.LastIndex(strings.TrimSpace(output), "\n")+1:]), &findings); err != nil {
		t.Fatalf("%v:\n%s", err, output)
	}
	for _, f := range findings {
		if f.Severity == checkup.SeverityError {
			t.Error(f.Message)
		}
	}
	s.wantSame("after the check", before)
}

// wantInLog waits until Caddy's log has a text.
func (s *scene) wantInLog(text string) {
	s.t.Helper()
	s.waitFor(fmt.Sprintf("the log has %q", text), func() bool { return strings.Contains(s.caddy.Log(1000), text) })
}

// hidden is a command that runs another with a directory of its own, in which it
// may make something first.
func hidden(directory, first string) []string {
	return []string{"unshare", "--mount", "sh", "-c", "mount -t tmpfs none " + directory + " && " + first + ` exec "$@"`, "sh"}
}

// all runs commands on the server, each of which must succeed.
func (s *scene) all(commands []string) {
	s.t.Helper()
	for _, command := range commands {
		args := strings.Fields(command)
		s.run(s.Server, args[0], args[1:]...)
	}
}

// check runs `caddy vnic check` on the server.
func (s *scene) check(config fmt.Stringer, wrapper []string, asJSON bool) (string, error) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	args := append(slices.Concat([]string{"--unset=SSH_CONNECTION"}, s.env, []string{"XDG_CONFIG_HOME=" + s.dir, "XDG_DATA_HOME=" + s.dir}), wrapper...)
	args = append(args, self, "vnic", "check", "--config", s.write("Caddyfile", config.String()), "--adapter", "caddyfile")
	if asJSON {
		args = append(args, "--json")
	}
	output, err := s.Server.Run(s.t.Context(), "env", args...)
	return string(output), err
}
