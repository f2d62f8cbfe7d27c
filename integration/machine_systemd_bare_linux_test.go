package integration_test

import (
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const installingPage = "docs/installing.md"

// goBare does what docs/installing.md says to give the host's one address to the
// bridge: on trial, from which the machine comes back by itself, then for good, and
// back again.
func (u *unit) goBare() {
	s := u.s
	s.t.Helper()
	s.nicIsEth1()
	s.write("Caddyfile", caddyfilesOf(s.t, installingPage)[1])
	s.listen(s.Server, "0.0.0.0:22", say("the host"))
	u.tryBare()

	s.all([]string{"ip address flush dev eth1", "ip link set eth1 down"})
	u.wantNetworkdLeavesBare()
	bare := s.snapshot()
	u.shell(examples.Inline(s.t, installingPage, "systemctl enable "))
	u.wantBoot()
	u.wantOneAddressForAll()
	u.shell(examples.Inline(s.t, installingPage, "systemctl disable "))
	s.wantSame("after going back", bare)
	if wants := u.run("ls", "/etc/systemd/system"); strings.Contains(wants, "multi-user.target.wants/caddy.service") {
		s.t.Errorf("the unit is still enabled: %s", wants)
	}
}

// nicIsEth1 gives the server's NIC the name that it has in the pages.
func (s *scene) nicIsEth1() {
	s.t.Helper()
	s.all([]string{"ip link set " + paper.NICDevice + " down", "ip link set " + paper.NICDevice + " name eth1", "ip link set eth1 up"})
	s.waitFor("the NIC has its carrier again", func() bool { // up to 1 s later, as netlab's links
		eth1, err := s.Server.Netlink().LinkByName("eth1")
		return err == nil && eth1.Attrs().OperState == netlink.OperUp
	})
}

// tryBare makes the trial and lets its time be over.
func (u *unit) tryBare() {
	s := u.s
	s.t.Helper()
	s.all([]string{"ip address add 192.168.1.2/24 dev eth1", "ip route add default via 192.168.1.1 dev eth1"})
	if got, err := hear(s.PC1, "192.168.1.2:22", 5*time.Second); got != "the host" {
		s.t.Errorf("before the trial port 22 gave PC1 %q (%v)", got, err)
	}
	u.shell(examples.Inline(s.t, installingPage, "caddy validate "))
	findings, err := u.try(s.t.Context(), "sh", "-euc", strings.TrimPrefix(examples.Beginning(s.t, installingPage, "sudo caddy vnic check"), "sudo "))
	if err == nil || strings.Count(string(findings), "error: ") != 2 {
		s.t.Errorf("the check before the trial says %v:\n%s", err, findings)
	}
	wantAll(s.t, "the check before the trial", string(findings), []string{"192.168.1.2 is this host's own, on eth1", "the host has a default route already (default via 192.168.1.1 dev eth1)"})
	s.ip(s.Server, "neighbour flush dev eth1")
	before := s.snapshot()
	trial := strings.TrimSpace(examples.Beginning(s.t, installingPage, "sudo systemd-run ")) + " "
	u.wantAddressBack("Caddy does not start", strings.Replace(trial, "/etc/caddy/Caddyfile", "/none", 1), func() {})
	u.wantAddressBack("the NIC's name is wrong", strings.Replace(trial, "del 192.168.1.2/24 dev eth1", "del 192.168.1.2/24 dev eth9", 1)+"|| true", func() {})
	u.wantAddressBack("the time is over", strings.Replace(trial, "RuntimeMaxSec=5min", "RuntimeMaxSec=1s", 1), func() {})
	u.wantAddressBack("Caddy is killed", trial, func() {
		u.wantOneAddressForAll()
		u.run("kill", "-KILL", u.property("vnic-trial", "MainPID"))
	})
	u.wantAddressBack("the administrator stops it", trial, func() {
		u.wantOneAddressForAll()
		u.run("systemctl", "stop", "vnic-trial")
	})
	s.wantSame("after the trials", before)
}

// wantAddressBack makes a trial and ends it, and checks that the host then has its
// address and its default route again.
func (u *unit) wantAddressBack(ending, trial string, end func()) {
	s := u.s
	s.t.Helper()
	networkOf := func() string { return s.ip(s.Server, "-brief address show dev eth1") + s.ip(s.Server, "route") }
	before := networkOf()
	u.shell(trial)
	end()
	s.waitFor(ending+": the trial has ended", func() bool { return u.property("vnic-trial", "LoadState") == "not-found" })
	if after := networkOf(); after != before {
		s.t.Errorf("%s: the host has\n%s, and had\n%s", ending, after, before)
	}
	if got, err := hear(s.PC1, "192.168.1.2:22", 5*time.Second); got != "the host" {
		s.t.Errorf("%s: port 22 then gave PC1 %q (%v)", ending, got, err)
	}
	s.ip(s.Server, "neighbour flush dev eth1")
}

// wantOneAddressForAll checks that the site and the host's own SSH are at the pseudo
// address.
func (u *unit) wantOneAddressForAll() {
	u.s.t.Helper()
	u.s.wantService()
	if got, err := hear(u.s.PC1, "192.168.1.2:22", 5*time.Second); got != "the host" {
		u.s.t.Errorf("port 22 of the pseudo address gave PC1 %q (%v)", got, err)
	}
}

// wantNetworkdLeavesBare has systemd-networkd bring the NIC up by the configuration
// that the page has for it. The page's two other managers would have to be installed
// for that, and would then hold this machine's own NICs.
func (u *unit) wantNetworkdLeavesBare() {
	s := u.s
	s.t.Helper()
	rows := examples.Table(s.t, installingPage, "A bare NIC")
	spans := examples.Spans(rows[0][1])
	file := spans[len(spans)-1]
	settings := strings.ReplaceAll(strings.Join(spans[:len(spans)-1], "\n"), "] ", "]\n")
	if err := s.Server.Sysctl("net/ipv6/conf/eth1/disable_ipv6", "0"); err != nil {
		s.t.Fatal(err)
	}
	u.run("sh", "-euc", `printf '%s\n' "$1" >"$2" && systemctl start systemd-networkd`, "sh", settings, file)
	s.waitFor("systemd-networkd has configured the NIC", func() bool {
		return strings.Contains(u.run("networkctl", "--no-pager", "status", "eth1"), "(configured)")
	})
	if got := s.ip(s.Server, "-o address show dev eth1"); got != "" {
		s.t.Errorf("systemd-networkd gives the NIC an address: %s", got)
	}
	if got := s.ip(s.Server, "-o link show dev eth1 up"); got == "" {
		s.t.Error("systemd-networkd leaves the NIC down")
	}
}

// wantBoot goes the way of a boot from basic.target, at which the container is, to
// multi-user.target, and checks that nothing waits for the NIC to get an address, for
// which systemd-networkd-wait-online takes two minutes.
func (u *unit) wantBoot() {
	s := u.s
	s.t.Helper()
	u.run("systemctl", "stop", "network-online.target", "systemd-networkd.socket", "systemd-networkd")
	s.ip(s.Server, "link set eth1 down")
	u.run("systemctl", "enable", "systemd-networkd", "systemd-networkd-wait-online")
	u.run("systemctl", "isolate", "--no-block", "multi-user.target")
	s.waitFor("the network is online and Caddy runs", func() bool { return u.property("caddy", "ActiveState") == "active" })
	if waited := u.property("systemd-networkd-wait-online", "ActiveState"); waited != "active" {
		s.t.Errorf("systemd-networkd-wait-online is %s", waited)
	}
	if failed := u.run("systemctl", "--failed", "--plain", "--no-legend"); failed != "" {
		s.t.Errorf("units failed at boot:\n%s", failed)
	}
}
