package integration_test

import (
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row L3: what is changed of a VNIC's IPv6 by hand, or by a network manager, is put back, a
// connection goes on, and the log says what it was. Linux takes IPv6 from a device whose MTU
// is below 1280, with all settings.
func TestVNICIsPutBackIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", a: "client_ip preserve\nports any"})
		s.listen(s.Server, server6+":9000", echo)
		session := s.openSession(pseudo6 + ":9000")
		session.want("the start")
		s.waitFor("the kernel has the routes to both segments' addresses, which it makes a moment after these", func() bool {
			routes := s.ip(s.Server, "-6 route show table local")
			return strings.Contains(routes, "local fd00:50::1 ") && strings.Contains(routes, "local fd00:60::1 ")
		})
		before := s.snapshot()
		for _, change := range []struct{ name, do string }{
			{"down", "ip link set vnic-A down"},
			{"MTU", "ip link set vnic-A mtu 1000"},
			{"MAC", "ip link set vnic-A address 02:00:00:00:00:01"},
			{"addresses flushed", "ip -6 address flush dev vnic-A"},
			{"address deleted", "ip -6 address delete fd00:50::1/64 dev vnic-A"},
			{"IPv6 switched off", "sysctl -q net.ipv6.conf.vnic-A.disable_ipv6=1"},
			{"router advertisements", "sysctl -q net.ipv6.conf.vnic-A.accept_ra=2"},
			{"link-local address", "sysctl -q net.ipv6.conf.vnic-A.addr_gen_mode=0"},
			{"route deleted", "ip -6 route delete fd00:50::/64 via fd00:50::2 dev vnic-A"},
			{"route to the alias deleted", "ip -6 route delete fd00:50::2 dev vnic-A"},
			{"rule deleted", "ip -6 rule delete from fd00:50::1"},
			{"neighbour deleted", "ip -6 neighbour delete fd00:50::2 dev vnic-A"},
			{"neighbour changed", "ip -6 neighbour replace fd00:50::2 lladdr 02:00:00:00:00:02 dev vnic-A nud permanent"},
		} {
			t.Run(change.name, func(t *testing.T) {
				defer s.in(t)()
				from := len(s.caddy.Log(everything))
				words := strings.Fields(change.do)
				s.run(s.Server, words[0], words[1:]...)
				s.wantLogFrom(from, "a VNIC was changed from outside: put back")
				s.wantSame("after a change by hand", before)
				s.wantService6()
				session.want(change.name)
			})
		}
	})
}

// Row L3: whatever happens to the NIC, the VNIC or the router, service by IPv6 resumes by
// itself, and a connection that was open before goes on.
func TestFaultsIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", gateway6: paper.RouterLinkLocal.String(), a: "ports any"})
		s.listen(s.Server, server6+":9000", echo)
		session := s.openSession(pseudo6 + ":9000")
		session.want("the start")
		if err := s.Router.Sysctl("net/ipv6/conf/wan/ndisc_notify", "1"); err != nil {
			t.Fatal(err)
		}
		for _, fault := range []struct {
			name string
			do   func()
		}{
			{"NIC down and up", func() {
				s.ip(s.Server, "link set nic0 down")
				s.wantLog("the NIC went down")
				s.ip(s.Server, "link set nic0 up")
			}},
			{"NIC renamed", func() { s.rename("nic0", "nic7") }},
			{"NIC renamed back", func() { s.rename("nic7", "nic0") }},
			{"the host's IPv6 on the NIC switched on", func() {
				s.run(s.Server, "sysctl", "-q", "net.ipv6.conf.nic0.disable_ipv6=0")
			}},
			{"and off", func() {
				s.run(s.Server, "sysctl", "-q", "net.ipv6.conf.nic0.disable_ipv6=1")
			}},
			{"VNIC deleted", func() {
				from := len(s.caddy.Log(everything))
				s.ip(s.Server, "link delete vnic-A")
				s.wantLogFrom(from, "the device is back")
			}},
			{"router replaced", func() {
				s.ip(s.Router, "link set wan address 00:24:a5:00:00:01")
			}},
		} {
			t.Run(fault.name, func(t *testing.T) {
				defer s.in(t)()
				fault.do()
				s.wantService6()
				session.want(fault.name)
			})
		}
	})
}

// Row F8: Linux takes IPv6 from a link whose MTU is below 1280, so a bridge with IPv6 on
// one does not start, and says why.
func TestLinkTooNarrowForIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.ip(s.Server, "link set nic0 mtu 1279")
		config := caddyfile{datapath: datapath, families: "46"}
		before := s.snapshot()
		if err := s.tryStart(config.String()); err == nil || !strings.Contains(err.Error(), "1280") || !strings.Contains(err.Error(), "nic0") {
			t.Fatalf("the start says %v, want an error that names nic0 and 1280", err)
		}
		s.wantSame("after the start has failed", before)
		s.ip(s.Server, "link set nic0 mtu 1280")
		s.start(config)
		s.wantService6()
	})
}

// Row L5: after a stop, and after Caddy was killed, nothing of IPv6 is left either.
func TestNothingIsLeftIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		config := caddyfile{datapath: datapath, families: "46", a: "client_ip preserve"}
		before := s.snapshot()
		s.start(config)
		s.wantService6()
		s.stop()
		s.wantSame("after stop", before)
		s.start(config)
		s.wantService6()
		s.kill()
		s.wantSame("after kill -9", withoutRules(before))
		s.start(config)
		s.wantService6()
		s.stop()
		s.wantSame("after the last stop", before)
	})
}
